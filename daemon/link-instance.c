/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-instance.h"

#include <string.h>

#include "qmp/message.h"
#include "wire/error.h"

/* Not guessable is not needed: who says it is authenticated. */
void link_instance_make(LinkInstance ret)
{
    g_autofree char *uuid = g_uuid_string_random();

    for (const char *c = uuid; *c; c++) {
        if (*c != '-') {
            *ret++ = *c;
        }
    }
    *ret = '\0';
}

bool link_instance_read(JsonObject *object, const char *name, LinkInstance ret,
                        GError **error)
{
    const char *text = qmp_message_get_string(object, name);

    if (!json_object_has_member(object, name)) {
        ret[0] = '\0';
        return true;
    }
    if (!text || strlen(text) != LINK_INSTANCE_LEN ||
        strspn(text, "0123456789abcdef") != LINK_INSTANCE_LEN) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link HELLO: got no usable '%s', expected 32 lower case hex "
                    "digits", name);
        return false;
    }
    memcpy(ret, text, LINK_INSTANCE_LEN + 1);
    return true;
}

void link_instance_add(JsonObject *object, const char *name,
                       const LinkInstance instance)
{
    if (instance[0]) {
        json_object_set_string_member(object, name, instance);
    }
}

bool link_instance_differs(const LinkInstance a, const LinkInstance b)
{
    return a[0] && b[0] && strcmp(a, b) != 0;
}
