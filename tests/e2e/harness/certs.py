# SPDX-License-Identifier: GPL-2.0-or-later
"""Credentials as QEMU's tls-creds-x509 and tls-creds-psk want them.

Elliptic keys, because a case should not wait for RSA.  Needs certtool.
"""
import datetime
import os
import secrets
import shutil
import subprocess

from .case import Skip

DEFAULT_VALID = datetime.timedelta(days=10)


def _certtool(*args):
    p = subprocess.run(['certtool', *args], capture_output=True, text=True)
    if p.returncode:
        raise RuntimeError('certtool %s: %s' % (' '.join(args), p.stderr.strip()))


class Authority:
    """A CA, and the certificates that it signs; several may coexist."""

    def __init__(self, t, name='ca'):
        if not shutil.which('certtool'):
            raise Skip('certtool (Debian: gnutls-bin)')
        self.t = t
        self.dir = t.subdir('tls-' + name)
        self.key = os.path.join(self.dir, 'ca-key.pem')
        self.cert = os.path.join(self.dir, 'ca-cert.pem')
        self._new_key(self.key)
        self._sign(self.cert, self.key, ['cn = "%s of the tests"' % name, 'ca', 'cert_signing_key'],
                   'self-signed')

    def directory(self, name, hostnames=None, valid=DEFAULT_VALID, roles=('server', 'client')):
        """A directory for one party: a certificate per role, and the CA's.

        hostnames default to its name and the loopback addresses.  valid is
        the time that is left to it; negative for one that has expired.
        """
        path = os.path.join(self.dir, name)
        os.mkdir(path)
        shutil.copy(self.cert, path)
        self.renew(path, name, hostnames, valid, roles)
        return path

    def renew(self, path, name, hostnames=None, valid=DEFAULT_VALID, roles=('server', 'client')):
        """Write new certificates into a party's directory, each replaced at once."""
        names = hostnames or [name, 'localhost', '127.0.0.1']
        for role in roles:
            key, cert = ('%s/%s-%s.pem' % (path, role, kind) for kind in ('key', 'cert'))
            self._new_key(key + '.new')
            usage = 'tls_www_' + role
            lines = ['cn = "%s"' % name, usage, 'signing_key'] + [
                '%s = "%s"' % ('ip_address' if n[0].isdigit() else 'dns_name', n) for n in names]
            self._sign(cert + '.new', key + '.new', lines, 'signed', valid)
            os.rename(key + '.new', key)
            os.rename(cert + '.new', cert)

    def fingerprint(self, path, role='server'):
        """A party's certificate as [peer] fingerprint has it."""
        p = subprocess.run(['certtool', '--fingerprint', '--hash', 'sha256', '--infile',
                            '%s/%s-cert.pem' % (path, role)],
                           capture_output=True, text=True, check=True)
        return 'sha256:' + p.stdout.strip().replace(':', '').lower()

    @staticmethod
    def _new_key(path):
        _certtool('--generate-privkey', '--key-type', 'ecdsa', '--curve', 'secp256r1',
                  '--outfile', path)

    def _sign(self, cert, key, lines, how, valid=DEFAULT_VALID):
        today = datetime.datetime.now(datetime.timezone.utc)
        begin = today - datetime.timedelta(days=10)
        end = today + valid
        template = cert + '.template'
        with open(template, 'w') as f:
            f.write('\n'.join(lines + ['activation_date = "%s UTC"' % begin.strftime('%F %T'),
                                       'expiration_date = "%s UTC"' % end.strftime('%F %T')]))
        args = ['--generate-' + ('self-signed' if how == 'self-signed' else 'certificate'),
                '--template', template, '--load-privkey', key, '--outfile', cert]
        if how == 'signed':
            args += ['--load-ca-certificate', self.cert, '--load-ca-privkey', self.key]
        _certtool(*args)
        os.unlink(template)


def psk_directory(t, name, users=('qemu',)):
    """A directory with keys.psk, one key for each user."""
    path = t.subdir('psk-' + name)
    with open(os.path.join(path, 'keys.psk'), 'w') as f:
        os.fchmod(f.fileno(), 0o600)
        for user in users:
            f.write('%s:%s\n' % (user, secrets.token_hex(32)))
    return path


def qemu_x509(directory, endpoint, verify=True, id='tls0'):
    """QEMU's options for these credentials; endpoint is server or client."""
    return ['-object', 'tls-creds-x509,id=%s,dir=%s,endpoint=%s,verify-peer=%s'
            % (id, directory, endpoint, 'on' if verify else 'off')]


def qemu_psk(directory, endpoint, user='qemu', id='tls0'):
    more = ',username=' + user if endpoint == 'client' else ''
    return ['-object', 'tls-creds-psk,id=%s,dir=%s,endpoint=%s%s' % (id, directory, endpoint, more)]
