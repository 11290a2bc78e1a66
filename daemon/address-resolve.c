/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers are converted in place.  Names go through GIO's resolver, because it
 * can be cancelled; it has no time limit of its own before GLib 2.78, so the
 * look-up runs on a private main context beside a timer.
 */
#include "daemon/address-resolve.h"

#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

typedef struct {
    GList *addresses;
    GError *error;
    bool done;
    bool timed_out;
    GCancellable *cancellable;  /* ours: the caller's, or the timer */
} Lookup;

static void on_resolved(GObject *source, GAsyncResult *result, gpointer data)
{
    Lookup *lookup = data;

    lookup->addresses = g_resolver_lookup_by_name_finish(
        G_RESOLVER(source), result, &lookup->error);
    lookup->done = true;
}

static gboolean on_timeout(gpointer data)
{
    Lookup *lookup = data;

    lookup->timed_out = true;
    g_cancellable_cancel(lookup->cancellable);
    return G_SOURCE_REMOVE;
}

static void on_caller_cancelled(GCancellable *caller G_GNUC_UNUSED,
                                gpointer data)
{
    g_cancellable_cancel(data);
}

static void run_lookup(Lookup *lookup, const char *host, gint64 deadline_us)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GResolver) resolver = g_resolver_get_default();
    gint64 left_us = deadline_us - g_get_monotonic_time();
    GSource *timer = g_timeout_source_new(left_us > 0 ? left_us / 1000 : 0);

    g_main_context_push_thread_default(context);
    g_source_set_callback(timer, on_timeout, lookup, NULL);
    g_source_attach(timer, context);
    g_resolver_lookup_by_name_async(resolver, host, lookup->cancellable,
                                    on_resolved, lookup);
    while (!lookup->done) {
        g_main_context_iteration(context, TRUE);
    }
    g_source_destroy(timer);
    g_source_unref(timer);
    g_main_context_pop_thread_default(context);
}

static GList *lookup_name(const char *host, gint64 deadline_us,
                          GCancellable *cancellable, GError **error)
{
    g_autoptr(GCancellable) own = g_cancellable_new();
    Lookup lookup = { .cancellable = own };
    gulong handler = 0;

    if (cancellable) {
        handler = g_cancellable_connect(cancellable,
                                        G_CALLBACK(on_caller_cancelled),
                                        own, NULL);
    }
    run_lookup(&lookup, host, deadline_us);
    g_cancellable_disconnect(cancellable, handler);
    if (lookup.timed_out && lookup.error) {
        g_clear_error(&lookup.error);
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                    "looking up '%s' took too long", host);
    } else if (lookup.error) {
        g_propagate_error(error, lookup.error);
    }
    return lookup.addresses;
}

static bool append_number(GArray *out, const char *host, unsigned port)
{
    struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *info = NULL;
    AddressSocket found = { 0 };
    char service[8];

    g_snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(host, service, &hints, &info) != 0) {
        return false;
    }
    memcpy(&found.storage, info->ai_addr, info->ai_addrlen);
    found.len = info->ai_addrlen;
    freeaddrinfo(info);
    g_array_append_val(out, found);
    return true;
}

static bool append_name(GArray *out, const Address *self, gint64 deadline_us,
                        GCancellable *cancellable, GError **error)
{
    GList *list = lookup_name(self->host, deadline_us, cancellable, error);
    GList *item;

    if (!list) {
        g_prefix_error(error, "%s: ", self->text);
        return false;
    }
    for (item = list; item; item = item->next) {
        g_autofree char *number = g_inet_address_to_string(item->data);

        append_number(out, number, self->port);
    }
    g_resolver_free_addresses(list);
    return true;
}

static void append_unix(GArray *out, const Address *self)
{
    AddressSocket found = { .len = sizeof(struct sockaddr_un) };
    struct sockaddr_un *un = (void *)&found.storage;

    un->sun_family = AF_UNIX;
    g_strlcpy(un->sun_path, self->host, sizeof(un->sun_path));
    g_array_append_val(out, found);
}

static void append_vsock(GArray *out, const Address *self)
{
    AddressSocket found = { .len = sizeof(struct sockaddr_vm) };
    struct sockaddr_vm *vm = (void *)&found.storage;

    vm->svm_family = AF_VSOCK;
    vm->svm_cid = self->cid;
    vm->svm_port = self->port;
    g_array_append_val(out, found);
}

GArray *address_resolve(const Address *self, gint64 deadline_us,
                        GCancellable *cancellable, GError **error)
{
    g_autoptr(GArray) out = g_array_new(FALSE, TRUE, sizeof(AddressSocket));

    switch (self->kind) {
    case ADDRESS_UNIX:
        append_unix(out, self);
        break;
    case ADDRESS_VSOCK:
        append_vsock(out, self);
        break;
    case ADDRESS_TCP:
        if (!append_number(out, self->host, self->port) &&
            !append_name(out, self, deadline_us, cancellable, error)) {
            return NULL;
        }
        break;
    }
    return g_steal_pointer(&out);
}
