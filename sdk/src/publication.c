#include "sdk/publication.h"

#include <pthread.h>
#include <string.h>

#include "schemas/errors.h"
#include "sdk/answer.h"

enum {
    DECODED_BYTES_MAX = 4 << 20, /* of the largest frame that is heard, with more rows than a broker puts into one */
};

static uint8_t topic[PUB_FRAME_SIZE];

static void make_topic(void)
{
    pub_frame_put(topic, PUB_LAG, VIEW_LIT("lag"), topic, 0);
}

struct view publication_lag_topic(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_topic);
    return view_of(topic, PUBLICATION_TOPIC_SIZE);
}

static int check_page(const struct wire_reply *r, struct err *e)
{
    if (r->code != 0 || r->body != BODY_LAG)
        return err_set(e, E_BAD_FRAME, "published lag: not a page of lag");
    for (uint32_t i = 0; i < r->lag.rows_n; i++) {
        if (r->lag.rows[i].topic.size == 0 || r->lag.rows[i].group.size == 0)
            return err_set(e, E_BAD_FRAME, "published lag: a row without a name");
    }
    return 0;
}

int publication_lag(struct view frame, struct arena *memory, const struct sluice_lag **rows, size_t *count, struct err *e)
{
    struct view wanted = publication_lag_topic();
    enum pub_kind kind;
    uint32_t channel;
    if (frame.size < PUB_FRAME_SIZE)
        return err_set(e, E_BAD_FRAME, "a publication of %zu bytes", frame.size);
    if (memcmp(frame.data, wanted.data, wanted.size) != 0)
        return err_set(e, E_UNSUPPORTED, "another publication");
    int code = pub_frame_check(frame.data, frame.size, &kind, &channel, e);
    if (code != 0)
        return code;
    struct buf copy = {0};
    struct view body = codec_aligned(view_of(frame.data + PUB_FRAME_SIZE, frame.size - PUB_FRAME_SIZE), &copy);
    struct arena decoded;
    struct wire_reply reply;
    arena_init(&decoded, DECODED_BYTES_MAX);
    code = codec_reply_decode(body, &reply, &decoded, e);
    if (code == 0)
        code = check_page(&reply, e);
    if (code == 0) {
        *count = reply.lag.rows_n;
        struct sluice_lag *out = arena_take(memory, (*count > 0 ? *count : 1) * sizeof *out);
        for (size_t i = 0; i < *count; i++)
            lag_row(memory, &reply.lag.rows[i], &out[i]);
        *rows = out;
    }
    arena_free(&decoded);
    buf_free(&copy);
    return code;
}
