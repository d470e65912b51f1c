#include "sdk/stock.h"

#include "base/mem.h"
#include "sdk/client.h"

void stock_init(struct stock *k)
{
    list_init(&k->shelves);
    k->messages = 0;
}

void stock_add(struct stock *k, struct answer *a, const struct wire_delivery *d, uint32_t next, size_t at, uint64_t until_ns)
{
    if (next == d->records_n)
        return;
    struct shelf *h = mem_zalloc(sizeof *h);
    *h = (struct shelf){.answer = answer_take(a), .delivery = d, .next = next, .at = at, .until_ns = until_ns};
    list_push_back(&k->shelves, &h->node);
    k->messages += d->records_n - next;
}

struct shelf *stock_first(const struct stock *k)
{
    struct list_node *n = list_first(&k->shelves);
    return n != NULL ? container_of(n, struct shelf, node) : NULL;
}

static void shelf_free(struct stock *k, struct shelf *h)
{
    k->messages -= h->delivery->records_n - h->next;
    list_remove(&h->node);
    answer_drop(h->answer);
    mem_free(h);
}

void stock_took(struct stock *k, uint32_t next, size_t at)
{
    struct shelf *h = stock_first(k);
    k->messages -= next - h->next;
    h->next = next;
    h->at = at;
    if (next == h->delivery->records_n)
        shelf_free(k, h);
}

bool stock_return(struct sluice *s, struct stock *k, uint64_t until_ns)
{
    bool any = false;
    LIST_EACH_SAFE (n, &k->shelves) {
        struct shelf *h = container_of(n, struct shelf, node);
        if (h->until_ns > until_ns)
            continue;
        delivery_return(s, h->delivery, h->next);
        shelf_free(k, h);
        any = true;
    }
    return any;
}

void stock_drop(struct stock *k)
{
    for (struct shelf *h; (h = stock_first(k)) != NULL;)
        shelf_free(k, h);
}

void delivery_return(struct sluice *s, const struct wire_delivery *d, uint32_t first)
{
    if (first == d->records_n)
        return;
    struct settling *x = settling_new(s, d->records_n - first);
    for (uint32_t i = first; i < d->records_n; i++) {
        const struct wire_record *r = &d->records[i];
        settling_add(x, (struct wire_settle_item){.token = d->token,
                                                  .offset = r->offset,
                                                  .group = d->group,
                                                  .partition = r->partition,
                                                  .verb = SETTLE_RELEASE});
    }
    settler_submit(&s->settler, x);
}
