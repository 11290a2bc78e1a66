# SPDX-License-Identifier: GPL-2.0-or-later
"""Metrics by HTTP: the text of query-metrics, to whoever asks, and nothing else of us."""
import http.client
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

from harness import Qemu, assert_migrated, case, check, wait_for
from harness.case import Failure, Skip
from harness.daemon import COMPLAINTS, Daemon, listening
from harness.openmetrics import read
from harness.sites import Sites

ON = {'daemon': {'metrics-http': '127.0.0.1:0'}}


def has_http(t):
    """Whether the daemon was built with it, as it says itself."""
    program = t.options.program('multiferryd')
    said = subprocess.run([program, '--version'], capture_output=True, text=True, check=True).stdout
    found = re.search(r'^built with(out)? metrics by HTTP$', said, re.M)
    check(found, said)
    return not found[1]


def need_http(t):
    if not has_http(t):
        raise Skip('a multiferryd that was built with libmicrohttpd')


def address_of(daemon):
    host, port = daemon.qmp.cmd('query-status')['metrics-http'].removeprefix('tcp:').rsplit(':', 1)
    return host, int(port)


def get(daemon, path='/metrics'):
    with urllib.request.urlopen('http://%s:%d%s' % (*address_of(daemon), path), timeout=10) as answer:
        return answer.headers, answer.read().decode()


def comparable(text):
    """Without what changes from one look to the next."""
    return re.sub(r'^(multiferry_migration_rtt_seconds\{.*\}) .*', r'\1', text, flags=re.M)


@case('e2e/metrics-http/off-by-default', needs=['daemon'])
def off(t):
    """One more listener on a hypervisor is the operator's decision."""
    daemon = Daemon(t, 'd', {})
    check('metrics-http' not in daemon.qmp.cmd('query-status'), 'it is on')
    inodes = {os.stat('/proc/%d/fd/%s' % (daemon.pid, fd)).st_ino
              for fd in os.listdir('/proc/%d/fd' % daemon.pid)}
    for kind in ('tcp', 'tcp6'):
        with open('/proc/net/' + kind) as f:
            for line in f.readlines()[1:]:
                check(int(line.split()[9]) not in inodes, 'it has a TCP socket: ' + line)


@case('e2e/metrics-http/of-a-migration', needs=['daemon', 'certtool'])
def scrape(t):
    """What the control socket says, before, while and after; in the form that it claims to have."""
    need_http(t)
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={**ON, 'peer dc2': {'rate': '100mbit'}})
    daemon = sites.dc1
    migration = sites.client.start('migrate', 'web1', '--to', 'dc2')
    seen = False
    while migration.alive():
        headers, text = get(daemon)
        check(headers['Content-Type'].startswith('application/openmetrics-text; version=1.0.0'),
              headers['Content-Type'])
        seen = seen or bool(read(text)['multiferry_migration_running'].samples)
    migration.expect_exit(0)
    check(seen, 'it never showed as running')
    assert_migrated(t, src, dst)
    wait_for(lambda: comparable(get(daemon)[1]) ==
             comparable(daemon.qmp.cmd('query-metrics')['text']), 'both to say the same', 5)


@case('e2e/metrics-http/prometheus', needs=['daemon'])
def prometheus(t):
    """Prometheus' own readers of both formats."""
    need_http(t)
    try:
        from prometheus_client import parser
        from prometheus_client.openmetrics import parser as openmetrics
    except ImportError:
        raise Skip('prometheus_client (Debian: python3-prometheus-client)') from None
    daemon = Daemon(t, 'd', ON)
    read = [{f.name: f.type for f in of.text_string_to_metric_families(text)} for of, text in (
        (openmetrics, get(daemon)[1]),
        (parser, daemon.qmp.cmd('query-metrics', format='prometheus')['text']))]
    for families in read:
        check(families.get('multiferry_build') == 'info' or
              families.get('multiferry_build_info') == 'gauge', 'got %s' % families)
    counters = [{n for n, kind in families.items() if kind == 'counter'} for families in read]
    check(counters[0] == counters[1] != set(), 'counters: %s' % counters)
    promtool_reads(t, daemon)


def promtool_reads(t, daemon):
    """Where it is installed; its package also starts a service."""
    if not shutil.which('promtool'):
        return
    p = subprocess.run(['promtool', 'check', 'metrics'], capture_output=True, text=True, timeout=30,
                       input=daemon.qmp.cmd('query-metrics', format='prometheus')['text'])
    t.log(p.stdout + p.stderr)
    check(p.returncode != 1, 'promtool cannot read it: ' + p.stderr)


@case('e2e/metrics-http/nothing-else', needs=['daemon'])
def nothing_else(t):
    """404 and 405; the connection is closed after each answer."""
    need_http(t)
    daemon = Daemon(t, 'd', ON)
    for method, path, status in (
            ('GET', '/metrics', 200), ('GET', '/metrics?x=1', 200), ('GET', '/', 404),
            ('GET', '/metrics/', 404), ('GET', '/../etc/passwd', 404), ('POST', '/', 404),
            ('POST', '/metrics', 405), ('PUT', '/metrics', 405), ('HEAD', '/metrics', 405),
            ('OPTIONS', '/metrics', 405), ('NONSENSE', '/metrics', 405)):
        connection = http.client.HTTPConnection(*address_of(daemon), timeout=10)
        connection.request(method, path, body=b'x' * 5000 if method in ('POST', 'PUT') else None)
        answer = connection.getresponse()
        check(answer.status == status, '%s %s: %d, expected %d' % (method, path, answer.status, status))
        check(answer.headers['Connection'] == 'close', '%s: keeps the connection' % path)
        check(status != 405 or answer.headers['Allow'] == 'GET', '405 without Allow')
        connection.close()
    get(daemon)


GARBAGE = [b'\0' * 4096, b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(500), b'\n' * 9000,
           b'GET /metrics HTTP/1.1\r\n' + b'X: ' + b'a' * 100000 + b'\r\n\r\n',
           b'GET ' + b'/a' * 50000 + b' HTTP/1.1\r\n\r\n',
           b'GET /metrics HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n',
           b'GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n',
           b'POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n' + b'x' * 300000,
           b'%s %n%n%n HTTP/1.1\r\nHost: %n%s\r\n\r\n', b'QEVM' + bytes(60)]


@case('e2e/metrics-http/garbage', needs=['daemon'])
def garbage(t):
    """Whatever is said: an answer or an end, a line in the log at most, and the next is served."""
    need_http(t)
    daemon = Daemon(t, 'd', ON)
    where = address_of(daemon)
    before = daemon.footprint()
    for data in GARBAGE:
        with socket.create_connection(where, 10) as s:
            s.settimeout(30)
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
            except TimeoutError:
                raise Failure('neither answered nor closed: %r' % data[:40]) from None
            except OSError:
                pass                        # cut off in the middle, as it may be
        get(daemon)
    daemon.assert_footprint(before)
    lines = len(daemon.log_text().splitlines())
    check(lines < 8, '%d lines in the log:\n%s' % (lines, daemon.log_text()))
    check(not COMPLAINTS.search(daemon.log_text()), daemon.log_text())


@case('e2e/metrics-http/idle-connections', needs=['daemon', 'certtool'], timeout=90)
def idle(t):
    """200 that say nothing: few are kept, others are served, a migration runs; then all are gone."""
    need_http(t)
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1=ON)
    daemon = sites.dc1
    where = address_of(daemon)
    fds = daemon.n_fds()
    silent = [socket.create_connection(where, 10) for _ in range(200)]
    # Half a request each, and more of it now and then: not silent, and no request either.
    for s in silent:
        try:
            s.sendall(b'GET /metrics HTTP/1.1\r\nX: ')
        except (ConnectionResetError, BrokenPipeError):
            pass
    wait_for(lambda: daemon.n_fds() > fds, 'some to be accepted', 5)
    check(daemon.n_fds() <= fds + 40, '%d descriptors for 200 strangers' % (daemon.n_fds() - fds))
    # From another address of this host: those of one address do not take all places.
    other = http.client.HTTPConnection(*where, timeout=10, source_address=('127.0.0.2', 0))
    other.request('GET', '/metrics')
    check(other.getresponse().status == 200, 'another address is not served')
    sites.client.json('migrate', 'web1', '--to', 'dc2')
    assert_migrated(t, src, dst)

    def drip():
        for s in silent:
            try:
                s.sendall(b'x')
            except OSError:
                pass
        try:
            return get(daemon)
        except (OSError, http.client.HTTPException, urllib.error.URLError):
            time.sleep(0.5)     # as a slow stranger would; the daemon's patience is what ends it
    wait_for(drip, 'the first address to be served again', 40)
    for s in silent:
        s.close()


@case('e2e/metrics-http/{kind}', needs=['daemon'], table=[dict(kind='unix'), dict(kind='activated')])
def sockets(t, kind):
    """A unix socket; one that systemd holds, without any key."""
    need_http(t)
    if kind == 'activated':
        with listening(('127.0.0.1', 0)) as sock:
            daemon = Daemon(t, 'd', {}, sockets=[('metrics', sock)])
            check(address_of(daemon) == sock.getsockname(), 'another address')
            read(get(daemon)[1])
        return
    path = Daemon.path_of(t, 'd', 'metrics.sock')
    daemon = Daemon(t, 'd', {'daemon': {'metrics-http': 'unix:' + path}})
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        s.sendall(b'GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n')
        data = b''
        while chunk := s.recv(65536):
            data += chunk
    head, _, body = data.partition(b'\r\n\r\n')
    check(head.startswith(b'HTTP/1.1 200 '), head)
    read(body.decode())


@case('e2e/metrics-http/refused', needs=['daemon'])
def refused(t):
    """Where it cannot be had, the daemon says why and does not start; also without the library."""
    with listening(('127.0.0.1', 0)) as taken:
        for value, why in (('127.0.0.1:%d' % taken.getsockname()[1], 'in use'),
                           ('vsock:3:9909', 'expected a TCP address or a unix socket')):
            daemon = Daemon(t, 'd', {'daemon': {'metrics-http': value}}, ready=False)
            code = daemon.wait_exit(10)
            daemon.may_be_dead = True
            check(code in (1, 2), 'ended with %d' % code)
            if not has_http(t):
                why = 'this multiferryd was built without HTTP'
            check(re.search(r'\[daemon\] metrics-http: .*' + why, daemon.log_text()), daemon.log_text())
