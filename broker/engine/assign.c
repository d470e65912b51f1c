/* Who is to own which partition.
 *
 * With n partitions and m members each gets n / m, and n % m of them one more. One more is for those who would else give up what they own,
 * then for those who would else give up what was meant for them, then for the first. Everybody keeps up to its share, what it owns before
 * what was meant for it; the rest goes to those who have less.
 */
#include "engine/assign.h"

#include "base/mem.h"

struct share { uint32_t owned, meant, most, got; };

/* One more for those who have more than the base of what counts, or for anybody, as long as there is more to give. */
enum counts { COUNTS_OWNED, COUNTS_ALL, ANYBODY };

static uint32_t one_more(struct share *s, uint32_t members, uint32_t base, uint32_t extra, enum counts what)
{
    for (uint32_t i = 0; i < members && extra > 0; i++) {
        uint32_t count = s[i].owned + (what == COUNTS_ALL ? s[i].meant : 0);
        if (s[i].most > base || (what != ANYBODY && count <= base))
            continue;
        s[i].most++;
        extra--;
    }
    return extra;
}

static void keep(struct share *s, uint32_t partitions, const uint32_t *has, const bool *firm, bool which, uint32_t *target)
{
    for (uint32_t p = 0; p < partitions; p++) {
        if (has[p] == ASSIGN_NONE || firm[p] != which || s[has[p]].got >= s[has[p]].most)
            continue;
        target[p] = has[p];
        s[has[p]].got++;
    }
}

void assign(uint32_t members, uint32_t partitions, const uint32_t *has, const bool *firm, uint32_t *target)
{
    for (uint32_t p = 0; p < partitions; p++)
        target[p] = ASSIGN_NONE;
    if (members == 0)
        return;
    struct share *s = mem_array(members, sizeof *s);
    uint32_t base = partitions / members, extra = partitions % members, next = 0;
    for (uint32_t i = 0; i < members; i++)
        s[i].most = base;
    for (uint32_t p = 0; p < partitions; p++)
        if (has[p] != ASSIGN_NONE)
            *(firm[p] ? &s[has[p]].owned : &s[has[p]].meant) += 1;
    for (enum counts what = COUNTS_OWNED; what <= ANYBODY; what++)
        extra = one_more(s, members, base, extra, what);
    keep(s, partitions, has, firm, true, target);
    keep(s, partitions, has, firm, false, target);
    for (uint32_t p = 0; p < partitions; p++) {
        if (target[p] != ASSIGN_NONE)
            continue;
        while (s[next].got >= s[next].most)
            next++;
        target[p] = next;
        s[next].got++;
    }
    mem_free(s);
}
