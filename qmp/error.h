/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp/error.h - what can go wrong in a QMP conversation, as GErrors
 *
 * QMP_ERROR is about the conversation and is what the client and the framer
 * set.  QMP_CLASS is about one command and is what a server's command handler
 * sets to choose the class of its answer; an error of any other domain is
 * answered as GenericError.
 */
#ifndef QMP_ERROR_H
#define QMP_ERROR_H

#include <glib.h>

#define QMP_ERROR qmp_error_quark()
#define QMP_CLASS qmp_class_quark()

typedef enum QmpError {
    QMP_ERROR_PROTOCOL,     /* the peer broke QMP or JSON */
    QMP_ERROR_DISCONNECTED, /* the connection is gone and stays gone */
    QMP_ERROR_TIMEOUT,      /* nothing came in time; it may still come */
    QMP_ERROR_COMMAND,      /* the peer answered "error"; see the class */
    QMP_ERROR_TOO_LARGE,    /* a message or a queue is above its limit */
    QMP_ERROR_ADDRESS,      /* the address is not one that we understand */
} QmpError;

/* The classes that QEMU knows (qapi/error.json); all others are generic. */
typedef enum QmpClass {
    QMP_CLASS_GENERIC,
    QMP_CLASS_COMMAND_NOT_FOUND,
    QMP_CLASS_DEVICE_NOT_ACTIVE,
    QMP_CLASS_DEVICE_NOT_FOUND,
    QMP_CLASS_KVM_MISSING_CAP,
} QmpClass;

GQuark qmp_error_quark(void);
GQuark qmp_class_quark(void);

/* The class as it is spelt on the wire; never NULL. */
const char *qmp_class_to_string(QmpClass klass);

/* The class so spelt, QMP_CLASS_GENERIC for one that we do not know. */
QmpClass qmp_class_from_string(const char *name);

/*
 * A QMP_ERROR_COMMAND as the client gives it: the text is "Class: desc", and
 * the class stays readable after the error has been prefixed or copied.
 */
GError *qmp_error_new_command(const char *klass, const char *desc);

/*
 * The class of @error: what the peer answered for QMP_ERROR_COMMAND, the code
 * for QMP_CLASS, QMP_CLASS_GENERIC for everything else.
 */
QmpClass qmp_error_get_class(const GError *error);

#endif
