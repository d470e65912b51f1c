#include "sdk/answer.h"

#include <string.h>

#include "base/mem.h"
#include "schemas/errors.h"

enum {
    DECODED_BYTES_MAX = 64 << 20, /* what decoding one reply may take beside its bytes */
    FLATBUFFER_ALIGN = 8,
};

static int decode(struct answer *a, struct view frame, struct err *e)
{
    struct frame f;
    int code = frame_check(frame.data, frame.size, &f, e);
    if (code != 0)
        return code;
    if ((f.flags & FRAME_REPLY) == 0)
        return err_set(e, E_BAD_FRAME, "not a reply");
    struct view body = view_of(frame.data + FRAME_SIZE, frame.size - FRAME_SIZE);
    if ((uintptr_t)body.data % FLATBUFFER_ALIGN != 0) {
        a->copy = mem_dup(body.data, body.size);
        body.data = a->copy;
    }
    return codec_reply_decode(body, &a->reply, &a->arena, e);
}

int answer_new(struct answer **out, struct ref *frame, struct budget *budget, struct err *e)
{
    struct answer *a = mem_zalloc(sizeof *a);
    atomic_init(&a->refs, 1);
    a->frame = frame;
    a->budget = budget;
    arena_init(&a->arena, DECODED_BYTES_MAX);
    int code = decode(a, ref_view(frame), e);
    a->charged = sizeof *a + frame->size + a->arena.used + (a->copy != NULL ? frame->size : 0);
    budget_charge(budget, a->charged);
    if (code != 0) {
        answer_drop(a);
        return code;
    }
    *out = a;
    return 0;
}

struct answer *answer_take(struct answer *a)
{
    atomic_fetch_add(&a->refs, 1);
    return a;
}

void answer_drop(struct answer *a)
{
    if (a == NULL || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    struct budget *budget = a->budget;
    size_t charged = a->charged;
    ref_drop(a->frame);
    mem_free(a->copy);
    arena_free(&a->arena);
    mem_free(a);
    budget_give(budget, charged);
}

void text_copy(char *to, size_t size, struct view from)
{
    size_t n = from.size < size - 1 ? from.size : size - 1;
    if (n > 0)
        memcpy(to, from.data, n);
    to[n] = '\0';
}

const char *text_keep(struct arena *a, struct view from)
{
    char *text = arena_take(a, from.size + 1);
    text_copy(text, from.size + 1, from);
    return text;
}
