#include "cli/message.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "base/units.h"
#include "cli/command.h"
#include "cli/out.h"

/* ---- base64 ---- */

static json_t *base64_json(struct sluice_bytes b)
{
    struct buf text = {0};
    put_base64(&text, b.data, b.size);
    json_t *string = json_string(buf_str(&text));
    buf_free(&text);
    return string;
}

/* ---- JSON ---- */

json_t *utf8_json(struct sluice_bytes b)
{
    return b.data != NULL ? json_stringn(b.data, b.size) : json_null();
}

/* Sets `name`, or `name_base64` if the bytes are not UTF-8. */
static void set_bytes(json_t *object, const char *name, const char *name_base64, struct sluice_bytes b)
{
    json_t *text = utf8_json(b);
    if (text != NULL)
        json_object_set_new(object, name, text);
    else
        json_object_set_new(object, name_base64, base64_json(b));
}

static json_t *header_json(struct sluice_bytes value)
{
    json_t *text = utf8_json(value);
    return text != NULL ? text : json_pack("{s:o}", "base64", base64_json(value));
}

static json_t *headers_json(const struct sluice_delivery *d)
{
    json_t *headers = json_object();
    struct sluice_bytes name, value;
    for (size_t pos = 0; sluice_header_next(d, &pos, &name, &value);) {
        char *key = utf8_text(name.data, name.size);
        json_t *before = json_object_get(headers, key);
        if (before == NULL)
            json_object_set_new(headers, key, header_json(value));
        else if (json_is_array(before))
            json_array_append_new(before, header_json(value));
        else
            json_object_set_new(headers, key, json_pack("[O,o]", before, header_json(value)));
        mem_free(key);
    }
    return headers;
}

static json_t *wall_json(uint64_t ms)
{
    return ms != 0 ? json_integer((json_int_t)ms) : json_null();
}

json_t *gap_json(const struct sluice_gap *g)
{
    static const char *const reasons[] = {"unknown", "retention", "hard_cap", "purged", "damaged"};
    bool known = g->reason > 0 && g->reason < (int)ARRAY_LEN(reasons);
    /* clang-format off */
    return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o, s:s}",
                     "partition", (json_int_t)g->partition,
                     "from", (json_int_t)g->from,
                     "to", (json_int_t)g->to,
                     "count", (json_int_t)g->count,
                     "from_ms", wall_json(g->from_ms),
                     "to_ms", wall_json(g->to_ms),
                     "reason", reasons[known ? g->reason : 0]);
    /* clang-format on */
}

json_t *message_json(const struct sluice_delivery *d)
{
    json_t *m = json_pack("{s:s, s:I, s:I}", "topic", d->topic, "partition", (json_int_t)d->partition,
                          "offset", (json_int_t)d->offset);
    set_bytes(m, "key", "key_base64", d->key);
    set_bytes(m, "value", "value_base64", d->value);
    json_object_set_new(m, "headers", headers_json(d));
    json_object_set_new(m, "timestamp_ms", json_integer((json_int_t)d->timestamp_ms));
    json_object_set_new(m, "attempt", json_integer((json_int_t)d->attempt));
    return m;
}

/* ---- formats ---- */

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef", *at = strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c);
    return c != '\0' && at != NULL ? (int)(at - digits) : -1;
}

bool unescape(const char **at, uint8_t *byte)
{
    static const char letters[] = "ntr0\\", bytes[] = "\n\t\r\0\\";
    const char *text = *at + 1;
    const char *letter = *text != '\0' ? strchr(letters, *text) : NULL;
    if (letter != NULL) {
        *byte = (uint8_t)bytes[letter - letters];
        *at += 2;
        return true;
    }
    if (text[0] != 'x' || hex_digit(text[1]) < 0 || hex_digit(text[2]) < 0)
        return false;
    *byte = (uint8_t)(16 * hex_digit(text[1]) + hex_digit(text[2]));
    *at += 4;
    return true;
}

static void add_piece(struct format *f, char what)
{
    f->pieces = mem_resize(f->pieces, f->count + 1, sizeof *f->pieces);
    f->pieces[f->count++] = (struct piece){.what = what};
}

static void add_plain(struct format *f, uint8_t byte)
{
    if (f->count == 0 || f->pieces[f->count - 1].what != 0)
        add_piece(f, 0);
    f->pieces[f->count - 1].size++;
    buf_put_u8(&f->text, byte);
}

int format_parse(struct format *f, const char *text, struct err *e)
{
    memset(f, 0, sizeof *f);
    while (*text != '\0') {
        uint8_t byte;
        if (*text == '\\') {
            if (!unescape(&text, &byte))
                return err_set(e, STATUS_USAGE, "there is no escape '%.2s': \\n \\t \\r \\0 \\\\ or \\xHH",
                               text);
            add_plain(f, byte);
        } else if (*text == '%') {
            if (text[1] == '\0' || strchr("tpokvhTa%", text[1]) == NULL)
                return err_set(e, STATUS_USAGE, "there is no '%.2s': %%t %%p %%o %%k %%v %%h %%T %%a or %%%%",
                               text);
            if (text[1] == '%')
                add_plain(f, '%');
            else
                add_piece(f, text[1]);
            text += 2;
        } else {
            add_plain(f, (uint8_t)*text++);
        }
    }
    return 0;
}

void format_free(struct format *f)
{
    buf_free(&f->text);
    mem_free(f->pieces);
    memset(f, 0, sizeof *f);
}

/* "name=value,name=value" */
static void put_headers(struct buf *to, const struct sluice_delivery *d)
{
    struct sluice_bytes name, value;
    bool first = true;
    for (size_t pos = 0; sluice_header_next(d, &pos, &name, &value); first = false) {
        buf_append(to, ",", first ? 0 : 1);
        buf_append(to, name.data, name.size);
        buf_put_u8(to, '=');
        buf_append(to, value.data, value.size);
    }
}

static void put_field(struct buf *to, char what, const struct sluice_delivery *d)
{
    char time[UNITS_TEXT_MAX];
    switch (what) {
    case 't':
        buf_putf(to, "%s", d->topic);
        break;
    case 'p':
        buf_putf(to, "%" PRIu32, d->partition);
        break;
    case 'o':
        buf_putf(to, "%" PRIu64, d->offset);
        break;
    case 'k':
        buf_append(to, d->key.data, d->key.size);
        break;
    case 'v':
        buf_append(to, d->value.data, d->value.size);
        break;
    case 'h':
        put_headers(to, d);
        break;
    case 'T':
        buf_putf(to, "%s", time_format(time, d->timestamp_ms));
        break;
    case 'a':
        buf_putf(to, "%" PRIu32, d->attempt);
        break;
    }
}

void format_put(const struct format *f, const struct sluice_delivery *d, struct buf *to)
{
    const uint8_t *text = f->text.data;
    for (size_t i = 0; i < f->count; i++) {
        const struct piece *p = &f->pieces[i];
        if (p->what != 0) {
            put_field(to, p->what, d);
        } else {
            buf_append(to, text, p->size);
            text += p->size;
        }
    }
}
