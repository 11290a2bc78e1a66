/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/config.h"

#include <string.h>
#include "daemon/config-table.h"

#define TLS "[tls]\ndirectory=/etc/multiferry/tls\n"
#define PEER TLS "[peer dc2]\naddress=192.0.2.7:7790\n" \
             "certificate-name=dc2.example.net\n"

/* The configuration that the project's first task asks for. */
static const char complete[] =
    "# a comment\n"
    "[daemon]\n"
    "name=dc1\n"
    "control=unix:/run/multiferry/control.sock\n"
    "rate=2Gbit\n"
    "memory=512M\n"
    "\n"
    TLS
    "[listen]\n"
    "link=0.0.0.0:7790\n"
    "[peer dc2]\n"
    "address=192.0.2.7:7790\n"
    "certificate-name=dc2.example.net\n"
    "lanes=8\n"
    "rate=500Mbit\n"
    "[vm web1]\n"
    "qmp=/run/qemu/web1.qmp\n"
    "[tunnel web2]\n"
    "listen=unix:/run/multiferry/web2.sock\n"
    "peer=dc2\n"
    "[tunnel web4]\n"
    "peer=dc2\n"
    "connect=tcp:127.0.0.1:49154\n"
    "channels=4\n"
    "[tunnel web3]\r\n"
    "listen = tcp:127.0.0.1:49153\r\n"
    "connect = tcp:192.0.2.9:49152  \r\n"
    "channels=8\n"
    "tls=yes\n";

static Config *load(const char *data, GError **error)
{
    size_t len = strlen(data);
    /* Exactly its size and no NUL behind it. */
    g_autofree char *copy = g_memdup2(data, len);

    return config_load_from_data(copy, len, "test.conf", NULL, NULL, error);
}

static void assert_refused(const char *data, const char *message)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = load(data, &error);

    g_assert_null(config);
    g_assert_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE);
    g_assert_cmpstr(error->message, ==, message);
}

static void test_reads_everything(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = load(complete, &error);
    const ConfigPeer *peer;
    const ConfigTunnel *tunnel;

    g_assert_no_error(error);
    g_assert_cmpstr(config->name, ==, "dc1");
    g_assert_cmpuint(config->rate, ==, 250000000);
    g_assert_cmpuint(config->memory, ==, UINT64_C(512) << 20);
    g_assert_true(config->has_tls);
    g_assert_true(config->tls.verify_peer);
    g_assert_cmpstr(config->listen_link->text, ==, "tcp:0.0.0.0:7790");
    peer = config_find_peer(config, "dc2");
    g_assert_cmpuint(peer->lanes, ==, 8);
    g_assert_cmpuint(peer->rate, ==, 62500000);
    g_assert_cmpstr(config_find_vm(config, "web1")->qmp->text, ==,
                    "unix:/run/qemu/web1.qmp");
    tunnel = config_find_tunnel(config, "web3");
    g_assert_cmpuint(tunnel->channels, ==, 8);
    g_assert_true(tunnel->tls);
    g_assert_cmpstr(tunnel->connect->text, ==, "tcp:192.0.2.9:49152");
    g_assert_null(config_find_tunnel(config, "web5"));
}

static void test_nothing_gives_the_defaults(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = config_load(NULL, NULL, NULL, &error);

    g_assert_no_error(error);
    g_assert_true(config->name[0]);
    g_assert_cmpstr(config->control->text, ==,
                    "unix:/run/multiferry/control.sock");
    g_assert_cmpuint(config->rate, ==, 0);
    g_assert_cmpuint(config->migration_memory, ==, UINT64_C(64) << 20);
    g_assert_cmpuint(config->timeouts.connect_ms, ==, 10000);
    g_assert_cmpint(config->handover, ==, HANDOVER_SAFE);
    g_assert_false(config->has_tls);
    g_assert_cmpuint(config->tunnels->len, ==, 0);
}

static void test_printed_means_the_same(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = load(complete, &error);
    g_autofree char *text = config_to_string(config);
    g_autoptr(Config) again = load(text, &error);
    g_autofree char *text_again = NULL;

    g_assert_no_error(error);
    text_again = config_to_string(again);
    g_assert_cmpstr(text, ==, text_again);
    g_assert_nonnull(strstr(text, "[peer dc2]\n"));
    g_assert_nonnull(strstr(text, "rate=500Mbit\n"));
    g_assert_nonnull(strstr(text, "idle=5min\n"));      /* a default */
}

typedef struct {
    const char *data, *message;
} Refusal;

static void assert_all_refused(const Refusal *refusals, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_refused(refusals[i].data, refusals[i].message);
    }
}

/* An operator must find the place and the remedy in the one line. */
static void test_refuses_values(void)
{
    static const Refusal refusals[] = {
        { PEER "lanes=65\n",
          "test.conf: [peer dc2] lanes: got '65', expected auto or a number "
          "from 1 to 64" },
        { PEER "lanes-max=auto\n",
          "test.conf: [peer dc2] lanes-max: got 'auto', expected a number "
          "from 1 to 64" },
        { "[daemon]\nrate=10\n",
          "test.conf: [daemon] rate: got '10', expected a number with a unit "
          "attached, such as 500mbit, 2Gbit or 10MiB/s, or 'unlimited'" },
        { "[daemon]\nmemory=1M\n",
          "test.conf: [daemon] memory: got '1M', expected a size from 8M to "
          "1T" },
        { "[daemon]\nhandover=quick\n",
          "test.conf: [daemon] handover: got 'quick', expected safe or "
          "fast" },
        { "[daemon]\nruntime-directory=run\n",
          "test.conf: [daemon] runtime-directory: got 'run', expected an "
          "absolute path" },
        { "[daemon]\nname=-x\n",
          "test.conf: [daemon] name: got '-x', expected "
          CONFIG_VALUE_NAME_RULE },
        { "[timeouts]\nconnect=never\n",
          "test.conf: [timeouts] connect: got 'never', expected a number "
          "with a unit attached, such as 300ms, 5s or 2min" },
        { "[timeouts]\nidle=99h\n",
          "test.conf: [timeouts] idle: got '99h', expected a time from 0ms "
          "to 24h, or 'never'" },
        { "[vm a]\nqmp=/q\nuuid=123\n",
          "test.conf: [vm a] uuid: got '123', expected a UUID such as "
          "6f0b3a52-8c1e-4a1f-9d0e-3c5b7a9e1f24" },
        { PEER "fingerprint=sha256:00\n",
          "test.conf: [peer dc2] fingerprint: got 'sha256:00', expected "
          "'sha256:' and 64 hexadecimal digits" },
        { "[tunnel a]\ntls=maybe\n",
          "test.conf: [tunnel a] tls: got 'maybe', expected yes or no" },
        { "[tunnel a]\ncompression=qpl\n",
          "test.conf: [tunnel a] compression: got 'qpl', expected same, none, "
          "zlib or zstd" },
        { "[tunnel a]\ncompression-level=10\n",
          "test.conf: [tunnel a] compression-level: got '10', expected a "
          "number from 1 to 9" },
        { "[tunnel a]\nzero-pages=drop\n",
          "test.conf: [tunnel a] zero-pages: got 'drop', expected keep or "
          "write" },
        { "[tunnel a]\npage-size=12K\n",
          "test.conf: [tunnel a] page-size: got '12K', expected auto, or a "
          "power of two from 1K to 64K" },
        { "[tunnel a]\npage-size=128K\n",
          "test.conf: [tunnel a] page-size: got '128K', expected auto, or a "
          "power of two from 1K to 64K" },
        { "[tls]\ndirectory=\n",
          "test.conf: [tls] directory: got '', expected an absolute path" },
    };

    assert_all_refused(refusals, G_N_ELEMENTS(refusals));
}

static void test_refuses_bad_addresses(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = load("[daemon]\ncontrol=tcp:x\n", &error);

    g_assert_null(config);
    g_assert_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE);
    g_assert_true(g_str_has_prefix(error->message, "test.conf: [daemon] "
                                   "control: got 'tcp:x', "));
}

static void test_refuses_unknown_words(void)
{
    static const Refusal refusals[] = {
        { "[daemno]\n",
          "test.conf: [daemno]: unknown group, did you mean [daemon]?" },
        { "[tunel web]\n",
          "test.conf: [tunel web]: unknown group, did you mean [tunnel "
          "NAME]?" },
        { "[completely different]\n",
          "test.conf: [completely different]: unknown group, expected daemon, "
          "timeouts, tls, listen, peer NAME, vm NAME or tunnel NAME" },
        { "[daemon]\nmemroy=1G\n",
          "test.conf: [daemon] memroy: unknown key, did you mean 'memory'?" },
        { "[daemon]\nfavourite-colour=1G\n",
          "test.conf: [daemon] favourite-colour: unknown key" },
        { "[daemon x]\n",
          "test.conf: [daemon x]: got a name, expected [daemon] alone" },
        { "[peer]\n",
          "test.conf: [peer]: got no name, expected [peer NAME] with "
          CONFIG_VALUE_NAME_RULE },
        { "[vm ../x]\n",
          "test.conf: [vm ../x]: got this name, expected [vm NAME] with "
          CONFIG_VALUE_NAME_RULE },
    };

    assert_all_refused(refusals, G_N_ELEMENTS(refusals));
}

/* GKeyFile alone would join the groups and take the last of the keys. */
static void test_refuses_what_comes_twice(void)
{
    static const Refusal refusals[] = {
        { "[vm a]\nqmp=/a\n[vm  a ]\nqmp=/b\n",
          "test.conf: line 3: got [vm a] twice, expected it once" },
        { "[vm a]\nqmp=/a\n qmp =/b\n",
          "test.conf: line 3: [vm a]: got 'qmp' twice, expected it once" },
        { "[vm a]\nqmp=/a\n[vm b]\nqmp=unix:/a\n",
          "test.conf: [vm b] qmp: got 'unix:/a', which [vm a] qmp has "
          "already" },
        { PEER "[tunnel a]\nlisten=127.0.0.1:1\npeer=dc2\n"
          "[tunnel b]\nlisten=tcp:127.0.0.1:1\npeer=dc2\n",
          "test.conf: [tunnel b] listen: got 'tcp:127.0.0.1:1', which "
          "[tunnel a] listen has already" },
        { "[tunnel a]\nlisten=/run/multiferry/control.sock\nconnect=/b\n",
          "test.conf: [tunnel a] listen: got "
          "'unix:/run/multiferry/control.sock', which [daemon] control has "
          "already" },
    };

    assert_all_refused(refusals, G_N_ELEMENTS(refusals));
}

static void test_refuses_what_is_not_ini(void)
{
    static const Refusal refusals[] = {
        { "name=x\n",
          "test.conf: line 1: got a key before the first [group]" },
        { "[daemon\n", "test.conf: line 1: got a group without its ']'" },
        { "# ok\n\n[daemon]\nname\n",
          "test.conf: line 4: got neither a [group], a key=value nor a "
          "# comment" },
        { "[daemon]\nname=b\xe4r\n",
          "test.conf: line 2: got bytes that are not UTF-8" },
        { "[vm b\xe4r]\n", "test.conf: line 1: got bytes that are not "
          "UTF-8" },
    };
    static const char nul[] = "[daemon]\nname=x\0y\n";
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = NULL;

    assert_all_refused(refusals, G_N_ELEMENTS(refusals));
    config = config_load_from_data(nul, sizeof(nul) - 1, "n", NULL, NULL,
                                   &error);
    g_assert_null(config);
    g_assert_cmpstr(error->message, ==, "n: line 2: got a NUL byte, expected "
                    "text");
}

static void test_comments_may_be_latin1(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = load("# f\xfcr\n[daemon]\n# \xe4\nname=x\n",
                                    &error);

    g_assert_no_error(error);
    g_assert_cmpstr(config->name, ==, "x");
}

static void test_refuses_what_does_not_fit_together(void)
{
    static const Refusal refusals[] = {
        { "[tunnel a]\nconnect=/b\n",
          "test.conf: [tunnel a]: got neither listen nor peer, expected one "
          "of them as the side that the migration comes from" },
        { "[tunnel a]\nlisten=/b\n",
          "test.conf: [tunnel a]: got only listen, expected connect or peer "
          "as the side that the migration goes to" },
        { PEER "[tunnel a]\npeer=dc2\n",
          "test.conf: [tunnel a]: got only peer, expected connect as the "
          "side that the migration goes to" },
        { PEER "[tunnel a]\nlisten=/b\nconnect=/c\npeer=dc2\n",
          "test.conf: [tunnel a]: got listen, connect and peer, expected two "
          "of them: what is listened for goes either to connect or to "
          "peer" },
        { "[tunnel a]\nlisten=/b\npeer=dc3\n",
          "test.conf: [tunnel a] peer: got 'dc3', expected the name of a "
          "[peer]" },
        { PEER "[tunnel a]\nlisten=/b\npeer=dc2\ncompression=zlib\n",
          "test.conf: [tunnel a] compression: got it without connect, where "
          "it has no effect" },
        { PEER "[tunnel a]\nlisten=/b\npeer=dc2\nzero-pages=write\n",
          "test.conf: [tunnel a] zero-pages: got it without connect, where "
          "it has no effect" },
        { "[tunnel a]\nlisten=/b\nconnect=/c\ncompression=none\n"
          "compression-level=3\n",
          "test.conf: [tunnel a] compression-level: got it without connect "
          "and a compression that has levels, where it has no effect" },
        { PEER "[tunnel a]\npeer=dc2\nconnect=/b\npage-size=8K\n",
          "test.conf: [tunnel a] page-size: got it without listen, where it "
          "has no effect" },
        { PEER "[tunnel a]\nlisten=/b\npeer=dc2\ntls=yes\n",
          "test.conf: [tunnel a] tls: got it without connect, where it has "
          "no effect" },
        { "[tunnel a]\nlisten=/b\nconnect=/c\nlisten-tls-client=x\n",
          "test.conf: [tunnel a] listen-tls-client: got it without "
          "listen-tls=yes, where it has no effect" },
        { "[tunnel a]\nlisten=/b\nconnect=/c\nlisten-tls-verify-client=no\n",
          "test.conf: [tunnel a] listen-tls-verify-client: got it without "
          "listen-tls=yes, where it has no effect" },
        { TLS "[tunnel a]\nlisten=/b\nconnect=/c\nlisten-tls=yes\n"
          "listen-tls-client=x\nlisten-tls-verify-client=no\n",
          "test.conf: [tunnel a] listen-tls-client: got it without "
          "listen-tls-verify-client=yes, where it has no effect" },
        { TLS "[tunnel a]\nlisten=/b\nconnect=/c\nlisten-tls=yes\n"
          "tls-psk=yes\nlisten-tls-verify-client=no\n",
          "test.conf: [tunnel a] listen-tls-verify-client: got it without "
          "certificates, where it has no effect" },
        { TLS "rekey=1K\n",
          "test.conf: [tls] rekey: got '1K', expected a size from 4K to "
          "256G" },
        { "[tunnel a]\nlisten=/b\nconnect=/c\ntls=yes\n",
          "test.conf: [tunnel a] tls: got yes without credentials, expected "
          "tls-directory or [tls] directory" },
        { "[vm a]\n", "test.conf: [vm a]: got no qmp, expected the QEMU's "
          "QMP socket" },
        { "[daemon]\nmemory=32M\n",
          "test.conf: [daemon] migration-memory: got '64M', expected at most "
          "memory, which is 32M" },
    };

    assert_all_refused(refusals, G_N_ELEMENTS(refusals));
}

/* No stranger: a peer that nothing identifies would be one. */
static void test_refuses_unidentified_peers(void)
{
    static const Refusal refusals[] = {
        { "[peer a]\naddress=x:1\ncertificate-name=x\n",
          "test.conf: [peer a]: got a peer without [tls] directory, expected "
          "both: there is no link without TLS" },
        { "[listen]\nlink=0.0.0.0:1\n",
          "test.conf: [listen] link: got 'tcp:0.0.0.0:1' without [tls] "
          "directory, expected both: there is no link without TLS" },
        { TLS "[listen]\nlink=0.0.0.0:1\n",
          "test.conf: [listen] link: got 'tcp:0.0.0.0:1' without any [peer], "
          "expected at least one: nobody else is let in" },
        { TLS "[peer a]\naddress=x:1\n",
          "test.conf: [peer a]: got nothing that says who it is, expected "
          "certificate-name or fingerprint (psk-identity needs psk=yes in "
          "[tls])" },
        { TLS "[peer a]\naddress=x:1\npsk-identity=x\n",
          "test.conf: [peer a]: got psk-identity, expected certificate-name "
          "or fingerprint (psk-identity needs psk=yes in [tls])" },
        { TLS "psk=yes\n[peer a]\naddress=x:1\ncertificate-name=x\n",
          "test.conf: [peer a]: got certificate-name or fingerprint, "
          "expected psk-identity, because [tls] has psk=yes" },
        { TLS "[peer a]\ncertificate-name=x\n",
          "test.conf: [peer a]: got no address, expected one, or [listen] "
          "link for the peer to connect to" },
        { "[tls]\npsk=yes\n",
          "test.conf: [tls]: got no directory, expected the one with the "
          "certificates or keys" },
    };

    assert_all_refused(refusals, G_N_ELEMENTS(refusals));
}

static void test_psk_and_fingerprint_peers(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) psk = load(TLS "psk=yes\npsk-username=dc1\n"
                                 "[peer a]\naddress=x:1\npsk-identity=dc2\n",
                                 &error);
    g_autoptr(Config) pinned = NULL;

    g_assert_no_error(error);
    g_assert_cmpint(psk->tls.kind, ==, TLS_PSK);
    pinned = load(TLS "[peer a]\naddress=x:1\nfingerprint=SHA256:"
                  "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:"
                  "00112233445566778899aabbccddeeff\n", &error);
    g_assert_no_error(error);
    g_assert_cmpstr(config_find_peer(pinned, "a")->fingerprint, ==, "sha256:"
                    "00112233445566778899aabbccddeeff"
                    "00112233445566778899aabbccddeeff");
}

/* The kernel would cut the names off, and take what is left for another. */
static void test_refuses_routes_the_kernel_cannot_have(void)
{
    static const Refusal refusals[] = {
        { PEER "dscp=64\n", "test.conf: [peer dc2] dscp: got '64', "
          "expected a number from 0 to 63" },
        { PEER "paths=eth1@dc2\n", "test.conf: [peer dc2] paths: got "
          "'eth1@dc2', expected [BIND@]HOST:PORT, BIND a local IP address or "
          "an interface" },
        { TLS "[listen]\nlink=:1\n[peer a]\ncertificate-name=a\n"
          "paths=b:1\n", "test.conf: [peer a] paths: got it without address, "
          "expected both: paths are the other ways" },
        { PEER "congestion-control=sixteen-bytes-xx\n",
          "test.conf: [peer dc2] congestion-control: got 'sixteen-bytes-xx', "
          "expected at most 15 bytes" },
        { PEER "bind=enp0s31f6-is-long\n",
          "test.conf: [peer dc2] bind: got 'enp0s31f6-is-long', expected an IP "
          "address or an interface of at most 15 bytes" },
    };

    assert_all_refused(refusals, G_N_ELEMENTS(refusals));
}

static void test_options_win(void)
{
    const char *const overrides[] = {
        "daemon.rate=1Mbit", "peer dc2.lanes=3", "vm a.b.qmp=/q", NULL
    };
    const char *const wrong[] = { "peer dc2.lanes=65", NULL };
    const char *const broken[] = { "lanes", NULL };
    g_autoptr(GError) error = NULL, error2 = NULL, error3 = NULL;
    g_autoptr(Config) config = config_load_from_data(PEER, strlen(PEER), "f",
                                                     overrides, NULL, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(config->rate, ==, 125000);
    g_assert_cmpuint(config_find_peer(config, "dc2")->lanes, ==, 3);
    g_assert_nonnull(config_find_vm(config, "a.b"));
    g_assert_null(config_load_from_data(PEER, strlen(PEER), "f", wrong, NULL,
                                        &error2));
    g_assert_cmpstr(error2->message, ==, "option: [peer dc2] lanes: got "
                    "'65', expected auto or a number from 1 to 64");
    g_assert_null(config_load(NULL, broken, NULL, &error3));
    g_assert_cmpstr(error3->message, ==, "option: got 'lanes', expected "
                    "GROUP.KEY=VALUE or 'GROUP NAME.KEY=VALUE'");
}

static void test_tunnels_from_options(void)
{
    const char *const tunnels[] = {
        "listen=tcp:127.0.0.1:4444,connect=tcp:127.0.0.1:4445,channels=8",
        "name=mine,listen=/run/a,,b,connect=/run/c",
        "listen=/run/d,connect=/run/e", NULL
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = config_load(NULL, NULL, tunnels, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(config_find_tunnel(config, "cli0")->channels, ==, 8);
    g_assert_cmpstr(config_find_tunnel(config, "mine")->listen->text, ==,
                    "unix:/run/a,b");
    g_assert_nonnull(config_find_tunnel(config, "cli1"));
}

static void test_refuses_wrong_tunnel_options(void)
{
    static const struct { const char *option, *message; } cases[] = {
        { "listen=/a,chanels=3",
          "--tunnel: [tunnel cli0] chanels: unknown key, did you mean "
          "'channels'?" },
        { "listen", "--tunnel: got 'listen', expected KEY=VALUE" },
        { "", "--tunnel: got '', expected KEY=VALUE" },
        { "listen=/a,listen=/b",
          "--tunnel: [tunnel cli0] listen: got it twice, expected it once" },
        { "name=a b,listen=/a",
          "--tunnel: [tunnel a b]: got this name, expected [tunnel NAME] "
          "with " CONFIG_VALUE_NAME_RULE },
        { "listen=/a", "options: [tunnel cli0]: got only listen, expected "
          "connect or peer as the side that the migration goes to" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *const tunnels[] = { cases[i].option, NULL };
        g_autoptr(GError) error = NULL;
        g_autoptr(Config) config = config_load(NULL, NULL, tunnels, &error);

        g_assert_null(config);
        g_assert_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE);
        g_assert_cmpstr(error->message, ==, cases[i].message);
    }
}

static void test_bounds(void)
{
    g_autofree char *large = g_malloc0(CONFIG_MAX_FILE_BYTES + 1);
    g_autoptr(GString) many = g_string_new(NULL);
    g_autoptr(GError) error = NULL, error2 = NULL;

    memset(large, '#', CONFIG_MAX_FILE_BYTES + 1);
    g_assert_null(config_load_from_data(large, CONFIG_MAX_FILE_BYTES + 1, "f",
                                        NULL, NULL, &error));
    g_assert_cmpstr(error->message, ==, "f: got 1048577 bytes, expected at "
                    "most 1048576");
    for (unsigned i = 0; i <= CONFIG_MAX_OBJECTS; i++) {
        g_string_append_printf(many, "[vm v%u]\n", i);
    }
    g_assert_null(load(many->str, &error2));
    g_assert_cmpstr(error2->message, ==, "test.conf: [vm v4096]: got one "
                    "more, expected at most 4096");
}

static void test_missing_file_is_named(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(config_load("/nonexistent/multiferryd.conf", NULL, NULL,
                              &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT);
    g_assert_nonnull(strstr(error->message, "/nonexistent/multiferryd.conf"));
}

/* Documents that forget a key, or sell one that is not there, are bugs. */
static void assert_keys_are_in(const char *path, const char *before,
                               const char *after)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        g_test_skip("needs to run in the root of the source tree");
        return;
    }
    for (size_t i = 0; i < config_table_n_groups; i++) {
        const ConfigGroup *group = &config_table_groups[i];

        for (size_t j = 0; j < group->n_keys; j++) {
            /* Of a schedule the name goes on. */
            bool whole = group->keys[j].type != CONFIG_VALUE_RATE_SCHEDULE;
            g_autofree char *wanted = g_strconcat(before, group->keys[j].name,
                                                  whole ? after : "", NULL);

            if (!strstr(text, wanted)) {
                g_test_message("%s: [%s] %s is missing", path, group->name,
                               group->keys[j].name);
                g_test_fail();
            }
        }
    }
}

static void test_manual_has_every_key(void)
{
    assert_keys_are_in("docs/multiferryd.conf.5", ".It Cm ", "");
}

/* With its comment signs gone the sample is a configuration, but for PSK. */
static void test_sample_is_valid(void)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    g_autoptr(GString) active = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = NULL;

    assert_keys_are_in("systemd/multiferryd.conf", "\n#", "=");
    if (!g_file_get_contents("systemd/multiferryd.conf", &text, NULL, NULL)) {
        return;
    }
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (g_str_has_prefix(*line, "#psk-")) {
            continue;       /* instead of certificates, not beside them */
        }
        /* "# " is prose, "#" directly before a word is a setting. */
        if ((*line)[0] == '#' && (*line)[1] != ' ') {
            g_string_append_printf(active, "%s\n", *line + 1);
        } else {
            g_string_append_printf(active, "%s\n", *line);
        }
    }
    config = load(active->str, &error);
    g_assert_no_error(error);
}

static void add(const char *name, GTestFunc function)
{
    g_autofree char *path = g_strconcat("/daemon/config/", name, NULL);

    g_test_add_func(path, function);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("reads-everything", test_reads_everything);
    add("nothing-gives-the-defaults", test_nothing_gives_the_defaults);
    add("printed-means-the-same", test_printed_means_the_same);
    add("refuses-values", test_refuses_values);
    add("refuses-bad-addresses", test_refuses_bad_addresses);
    add("refuses-unknown-words", test_refuses_unknown_words);
    add("refuses-what-comes-twice", test_refuses_what_comes_twice);
    add("refuses-what-is-not-ini", test_refuses_what_is_not_ini);
    add("comments-may-be-latin1", test_comments_may_be_latin1);
    add("refuses-what-does-not-fit-together",
        test_refuses_what_does_not_fit_together);
    add("refuses-routes-the-kernel-cannot-have",
        test_refuses_routes_the_kernel_cannot_have);
    add("refuses-unidentified-peers", test_refuses_unidentified_peers);
    add("psk-and-fingerprint-peers", test_psk_and_fingerprint_peers);
    add("options-win", test_options_win);
    add("tunnels-from-options", test_tunnels_from_options);
    add("refuses-wrong-tunnel-options", test_refuses_wrong_tunnel_options);
    add("bounds", test_bounds);
    add("missing-file-is-named", test_missing_file_is_named);
    add("manual-has-every-key", test_manual_has_every_key);
    add("sample-is-valid", test_sample_is_valid);
    return g_test_run();
}
