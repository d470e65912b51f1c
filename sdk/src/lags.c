/* How far groups are behind. */
#include "sdk/listing.h"
#include "sdk/publication.h"

void lag_row(struct arena *memory, const struct wire_lag *w, struct sluice_lag *out)
{
    *out = (struct sluice_lag){
        .topic = text_keep(memory, w->topic),
        .group = text_keep(memory, w->group),
        .lag_messages = w->lag_messages,
        .lag_bytes = w->lag_bytes,
        .in_flight = w->in_flight,
        .delayed = w->delayed,
        .parked = w->parked,
        .oldest_age_seconds = (double)w->oldest_age_ms / 1000,
        .ack_rate = (double)w->ack_rate_milli / 1000,
        .drain_eta_seconds = w->drain_eta_ms == UINT64_MAX ? -1 : (double)w->drain_eta_ms / 1000,
        .status = w->status,
        .scale_value = w->scale_value,
        .lost = w->lost,
    };
}

static bool lag_page(struct listing *l, const struct wire_reply *reply)
{
    if (reply->body != BODY_LAG)
        return false;
    const struct wire_lag_reply *page = &reply->lag;
    struct sluice_lag *rows = listing_rows(l, page->rows_n, sizeof *rows);
    for (uint32_t i = 0; i < page->rows_n; i++)
        lag_row(&l->memory, &page->rows[i], &rows[i]);
    l->more = page->more;
    if (l->more && page->rows_n > 0)
        listing_after_group(l, rows[page->rows_n - 1].topic, rows[page->rows_n - 1].group);
    return true;
}

int sluice_group_lag(struct sluice *s, const char *topic, const char *name, struct sluice_lag_list **out,
                     struct sluice_error *err)
{
    struct listing *l;
    int code = listing_of(s, VERB_GROUP_LAG, topic, name, lag_page, &l, err);
    if (code == 0)
        l->out.lag = (struct sluice_lag_list){.count = l->rows_n, .rows = l->rows};
    *out = code == 0 ? &l->out.lag : NULL;
    return code;
}

void sluice_lag_free(struct sluice_lag_list *l)
{
    if (l != NULL)
        listing_free(container_of(l, struct listing, out.lag));
}
