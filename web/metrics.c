#include "web/metrics.h"

#include <math.h>

void metric_family(struct buf *out, const char *name, enum metric_type type, const char *help)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    buf_putf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]);
}

/* Quotes, backslashes and line ends are what the format escapes. */
static void put_label(struct buf *out, const struct metric_label *l)
{
    buf_putf(out, "%s=\"", l->name);
    for (size_t i = 0; i < l->value.size; i++) {
        uint8_t c = l->value.data[i];
        if (c == '\n')
            buf_append(out, "\\n", 2);
        else if (c == '"' || c == '\\')
            buf_append(out, (const uint8_t[]){'\\', c}, 2);
        else
            buf_put_u8(out, c);
    }
    buf_put_u8(out, '"');
}

void metric_sample(struct buf *out, const char *name, const struct metric_label *labels, size_t labels_n,
                   double value)
{
    buf_putf(out, "%s", name);
    for (size_t i = 0; i < labels_n; i++) {
        buf_put_u8(out, i == 0 ? '{' : ',');
        put_label(out, &labels[i]);
    }
    bool whole = value == floor(value) && fabs(value) < 0x1p53;
    buf_putf(out, whole ? "%s %.0f\n" : "%s %.9g\n", labels_n > 0 ? "}" : "", value);
}

void metric(struct buf *out, const char *name, enum metric_type type, const char *help, double value)
{
    metric_family(out, name, type, help);
    metric_sample(out, name, NULL, 0, value);
}
