/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp/error.h"

#include <assert.h>

static const char *const class_names[] = {
    [QMP_CLASS_GENERIC]           = "GenericError",
    [QMP_CLASS_COMMAND_NOT_FOUND] = "CommandNotFound",
    [QMP_CLASS_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
    [QMP_CLASS_DEVICE_NOT_FOUND]  = "DeviceNotFound",
    [QMP_CLASS_KVM_MISSING_CAP]   = "KVMMissingCap",
};
static_assert(G_N_ELEMENTS(class_names) == QMP_CLASS_KVM_MISSING_CAP + 1,
              "a QMP error class has no name");

/*
 * The class rides in the error's private data rather than in its text, so
 * that callers may prefix the text and still ask for the class.
 */
typedef struct QmpErrorPrivate {
    QmpClass klass;
} QmpErrorPrivate;

static void qmp_error_private_init(QmpErrorPrivate *priv)
{
    priv->klass = QMP_CLASS_GENERIC;
}

static void qmp_error_private_copy(const QmpErrorPrivate *src,
                                   QmpErrorPrivate *dst)
{
    dst->klass = src->klass;
}

static void qmp_error_private_clear(QmpErrorPrivate *priv)
{
    (void)priv;
}

G_DEFINE_EXTENDED_ERROR(QmpError, qmp_error)

G_DEFINE_QUARK(qmp-class-quark, qmp_class)

const char *qmp_class_to_string(QmpClass klass)
{
    g_assert((size_t)klass < G_N_ELEMENTS(class_names));
    return class_names[klass];
}

QmpClass qmp_class_from_string(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(class_names); i++) {
        if (g_strcmp0(name, class_names[i]) == 0) {
            return (QmpClass)i;
        }
    }
    return QMP_CLASS_GENERIC;
}

GError *qmp_error_new_command(const char *klass, const char *desc)
{
    GError *error = g_error_new(QMP_ERROR, QMP_ERROR_COMMAND, "%s: %s",
                                klass, desc);

    qmp_error_get_private(error)->klass = qmp_class_from_string(klass);
    return error;
}

QmpClass qmp_error_get_class(const GError *error)
{
    if (error->domain == QMP_ERROR) {
        return qmp_error_get_private(error)->klass;
    }
    if (error->domain == QMP_CLASS && error->code >= 0 &&
        (size_t)error->code < G_N_ELEMENTS(class_names)) {
        return (QmpClass)error->code;
    }
    return QMP_CLASS_GENERIC;
}
