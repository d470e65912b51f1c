/* See payload.h. */
#include "payload.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"

struct laid { /* at the start of each payload */
    uint64_t checksum; /* of what follows */
    uint64_t number, intended_ns;
    uint32_t stream, size;
};
_Static_assert(sizeof(struct laid) == PAYLOAD_MIN, "the smallest payload is its head");

static uint64_t mixed(uint64_t x) /* splitmix64, by Steele, Lea and Flood */
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void fill_noise(uint8_t *out, size_t size, uint64_t x)
{
    for (; size > 0; size -= size < 8 ? size : 8, out += 8) {
        uint64_t word = mixed(x += UINT64_C(0x9e3779b97f4a7c15));
        memcpy(out, &word, size < 8 ? size : 8);
    }
}

/* As records of one schema are: names that repeat, values that do not. */
static void fill_text(uint8_t *out, size_t size, uint64_t x)
{
    static const char names[] = "{\"customer\":\"________\",\"article\":\"________\",\"state\":\"paid\"},";
    for (size_t i = 0; i < size; i++) {
        char c = names[i % (sizeof names - 1)];
        if (c == '_')
            c = (char)('a' + mixed(x + i) % 26);
        out[i] = (uint8_t)c;
    }
}

void payload_fill(const struct payload *p, const struct payload_head *head, void *out)
{
    assert(p->size >= PAYLOAD_MIN && p->size <= PAYLOAD_MAX);
    struct laid l = {.number = head->number, .intended_ns = head->intended_ns, .stream = head->stream, .size = (uint32_t)p->size};
    uint64_t x = mixed(p->seed ^ mixed(((uint64_t)head->stream << 40) ^ head->number));
    uint8_t *body = (uint8_t *)out + sizeof l;
    (p->compressible ? fill_text : fill_noise)(body, p->size - sizeof l, x);
    memcpy(out, &l, sizeof l);
    l.checksum = hash_bytes((uint8_t *)out + sizeof l.checksum, p->size - sizeof l.checksum, 0);
    memcpy(out, &l.checksum, sizeof l.checksum);
}

bool payload_read(const void *data, size_t size, struct payload_head *head)
{
    struct laid l;
    if (size < sizeof l)
        return false;
    memcpy(&l, data, sizeof l);
    if (l.size != size || l.checksum != hash_bytes((const uint8_t *)data + sizeof l.checksum, size - sizeof l.checksum, 0))
        return false;
    *head = (struct payload_head){.number = l.number, .intended_ns = l.intended_ns, .stream = l.stream};
    return true;
}
