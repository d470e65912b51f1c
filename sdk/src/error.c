#include "sdk/error.h"

#include <stdio.h>
#include <string.h>

#include "base/units.h"

/* The public enum is the table. A code that is missing there, or differs, does not compile. */
#define X(code, name, text, retriable, fatal) _Static_assert(SLUICE_##name == (code), #name);
#include "schemas/errors.def"
#undef X

const char *sluice_code_name(int code)
{
    return error_name(code);
}

const char *sluice_code_text(int code)
{
    return error_text(code);
}

bool sluice_code_retriable(int code)
{
    return error_retriable(code);
}

bool sluice_code_fatal(int code)
{
    return error_fatal(code);
}

/* Texts are cut as base/err.h cuts them: between characters. */
_Static_assert(sizeof(((struct sluice_error *)NULL)->text) == ERR_TEXT_MAX, "a text fits");

int fail(struct sluice_error *err, int code, const char *fmt, ...)
{
    if (err == NULL)
        return code;
    struct err e;
    va_list args;
    va_start(args, fmt);
    err_vset(&e, code, fmt, args);
    va_end(args);
    *err = (struct sluice_error){.code = code};
    memcpy(err->text, e.text, sizeof err->text);
    return code;
}

int fail_below(struct sluice_error *err, int code, const struct err *e, const char *context)
{
    if (context == NULL)
        return fail(err, code, "%s", e->text);
    return fail(err, code, "%s: %s", context, e->text);
}

int fail_same(struct sluice_error *err, const struct sluice_error *from)
{
    if (err != NULL)
        *err = *from;
    return from->code;
}

int fail_reply(struct sluice_error *err, const struct wire_reply *reply, const char *about)
{
    struct view detail = reply->detail.size > 0 ? reply->detail : VIEW_LIT("");
    if (about != NULL && memmem(detail.data, detail.size, about, strlen(about)) != NULL)
        about = NULL; /* the detail says it */
    int size = (int)(detail.size < ERR_TEXT_MAX ? detail.size : ERR_TEXT_MAX);
    fail(err, reply->code, "%s%s%s%s%.*s", error_text(reply->code), about != NULL ? ": " : "",
         about != NULL ? about : "", size > 0 ? ": " : "", size, (const char *)detail.data);
    if (err != NULL) {
        err->retry_after_ms = reply->retry_after_ms;
        err->depth = reply->depth;
        err->drain_ms = reply->drain_ms;
    }
    return reply->code;
}

int fail_no_topic(struct sluice_error *err, const char *topic)
{
    return fail(err, E_TOPIC_NOT_FOUND, "no such topic: '%s'; create it with: sluice topic create %s", topic,
                topic);
}

int fail_no_group(struct sluice_error *err, const char *topic, const char *group)
{
    return fail(
        err, E_GROUP_NOT_FOUND,
        "no such group: '%s' of topic '%s'; create it with: sluice group create %s --topic %s --mode queue",
        group, topic, group, topic);
}

int take_struct(void *to, size_t to_size, size_t least, const void *from, const char *name,
                struct sluice_error *err)
{
    memset(to, 0, to_size);
    if (from == NULL)
        return 0;
    size_t size;
    memcpy(&size, from, sizeof size); /* every such struct begins with it */
    if (size < least)
        return fail(err, E_INVALID_ARGUMENT, "struct %s: size is %zu, must be sizeof(struct %s)", name, size,
                    name);
    const unsigned char *bytes = from;
    for (size_t i = to_size; i < size; i++) {
        if (bytes[i] != 0)
            return fail(err, E_UNSUPPORTED, "struct %s: uses a field that this library (%s) does not know",
                        name, sluice_version());
    }
    memcpy(to, from, size < to_size ? size : to_size);
    return 0;
}

int check_name(const char *what, const char *name, struct sluice_error *err)
{
    if (name == NULL)
        return fail(err, E_INVALID_ARGUMENT, "the name of the %s is missing (NULL)", what);
    struct err e;
    if (name_check(what, view_of_str(name), &e) != 0)
        return fail_below(err, E_INVALID_ARGUMENT, &e, NULL);
    return 0;
}
