/* Single records of the logs, and of what a group holds, by partition and offset. It keeps the batch open that it read last: cheap where
 * records are asked for in the log's order. */
#ifndef BROKER_SLICER_H
#define BROKER_SLICER_H

#include "broker/logwalk.h"
#include "schemas/records.h"

/* A walk and the batch of it that is open. What a group holds and the log has no more is read from its copy. All zero but the group: new. */
struct slicer {
    uint32_t group;            /* whose copies; 0: none */
    struct walk w;
    struct batch b;
    struct batch_reader reader;
    bool walking, reading;
    uint64_t start;            /* of its partition, when the batch was opened */
    struct buf copy;           /* the row of a copy */
    struct batch_reader copy_reader;
    bool copied;               /* it is open */
};

/* Where a record was found: good until the next call with the slicer. */
struct found { const struct batch_columns *c; uint32_t index; struct stored_header h; };

/* One record of the log, or its copy. Its bytes are good until the next call with this slicer. GAP: it is gone with retention, compaction, or
 * its partition. */
int slicer_get(struct slicer *s, const struct log_source *src, uint32_t partition, uint64_t offset, struct record *record, struct found *f,
               struct err *e);
void slicer_stop(struct slicer *s);

#endif
