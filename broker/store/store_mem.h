/* The same contract in RAM, with faults: for tests, for the simulator, and for an embedded broker that keeps nothing.
 *
 * It keeps two images: what was written and what was synced. A crash (store_mem_crash) throws away what a power cut would:
 * the lists written since the last sync, from the first that is dropped on; a torn list is dropped whole, as a write-ahead log
 * with checksums drops it. Deterministic: same calls, same results.
 */
#ifndef STORE_STORE_MEM_H
#define STORE_STORE_MEM_H

#include "store/store.h"

struct store_mem_faults {
    uint64_t fail_write_at;  /* the n-th write from now (1 = next) answers `write_code`; 0: none */
    int write_code;          /* DISK_FULL, OVERLOADED or STORE_FAILED */
    uint32_t fail_writes;    /* how many in a row; 0: one */
    uint64_t fail_sync_at;   /* likewise; a failed sync is STORE_FAILED from then on */
    uint64_t fail_get_at;    /* likewise; DAMAGED */
    uint64_t disk_free;      /* reported by stats; 0: plenty */
};
struct store *store_mem_new(void);
void store_mem_faults(struct store *s, const struct store_mem_faults *f); /* replaces what was set */
uint64_t store_mem_unsynced(const struct store *s);                       /* lists written and not synced */
/* Power cut: keeps everything synced and the first `keep` of the unsynced lists. The store can be used again at once, as after
 * opening; a fault that had failed it is gone. */
void store_mem_crash(struct store *s, uint64_t keep);
/* Damages the value of a row so that reading it answers DAMAGED. */
bool store_mem_damage(struct store *s, enum store_family f, struct view key);
uint64_t store_mem_digest(const struct store *s); /* over all rows as written */

#endif
