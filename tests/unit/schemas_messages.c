#include "schemas_messages.h"

enum { REQUEST, REPLY, PACKET };

const struct kind kinds[] = {
    {"request-hello", REQUEST, VERB_HELLO},
    {"request-bye", REQUEST, VERB_BYE},
    {"request-produce", REQUEST, VERB_PRODUCE},
    {"request-fetch", REQUEST, VERB_FETCH},
    {"request-receive", REQUEST, VERB_RECEIVE},
    {"request-settle", REQUEST, VERB_SETTLE},
    {"request-topic-create", REQUEST, VERB_TOPIC_CREATE},
    {"request-topic-alter", REQUEST, VERB_TOPIC_ALTER},
    {"request-topic-delete", REQUEST, VERB_TOPIC_DELETE},
    {"request-topic-list", REQUEST, VERB_TOPIC_LIST},
    {"request-offset-for", REQUEST, VERB_OFFSET_FOR},
    {"request-group-create", REQUEST, VERB_GROUP_CREATE},
    {"request-group-alter", REQUEST, VERB_GROUP_ALTER},
    {"request-group-delete", REQUEST, VERB_GROUP_DELETE},
    {"request-group-list", REQUEST, VERB_GROUP_LIST},
    {"request-group-lag", REQUEST, VERB_GROUP_LAG},
    {"request-held-list", REQUEST, VERB_HELD_LIST},
    {"request-health", REQUEST, VERB_HEALTH},
    {"request-group-control", REQUEST, VERB_GROUP_CONTROL},
    {"request-held-change", REQUEST, VERB_HELD_CHANGE},
    {"request-task-list", REQUEST, VERB_TASK_LIST},
    {"request-task-cancel", REQUEST, VERB_TASK_CANCEL},
    {"request-sched-list", REQUEST, VERB_SCHED_LIST},
    {"request-sched-change", REQUEST, VERB_SCHED_CHANGE},
    {"request-explain", REQUEST, VERB_EXPLAIN},
    {"request-state-get", REQUEST, VERB_STATE_GET},
    {"request-group-join", REQUEST, VERB_GROUP_JOIN},
    {"request-group-heartbeat", REQUEST, VERB_GROUP_HEARTBEAT},
    {"request-group-leave", REQUEST, VERB_GROUP_LEAVE},
    {"request-group-commit", REQUEST, VERB_GROUP_COMMIT},
    {"request-group-seek", REQUEST, VERB_GROUP_SEEK},
    {"request-group-members", REQUEST, VERB_GROUP_MEMBERS},
    {"request-backup", REQUEST, VERB_BACKUP},
    {"request-worker-report", REQUEST, VERB_WORKER_REPORT},
    {"request-worker-list", REQUEST, VERB_WORKER_LIST},
    {"request-worker-control", REQUEST, VERB_WORKER_CONTROL},
    {"reply-none", REPLY, BODY_NONE},
    {"reply-hello", REPLY, BODY_HELLO},
    {"reply-produce", REPLY, BODY_PRODUCE},
    {"reply-fetch", REPLY, BODY_FETCH},
    {"reply-receive", REPLY, BODY_RECEIVE},
    {"reply-settle", REPLY, BODY_SETTLE},
    {"reply-topics", REPLY, BODY_TOPICS},
    {"reply-offset", REPLY, BODY_OFFSET},
    {"reply-groups", REPLY, BODY_GROUPS},
    {"reply-lag", REPLY, BODY_LAG},
    {"reply-held", REPLY, BODY_HELD},
    {"reply-health", REPLY, BODY_HEALTH},
    {"reply-tasks", REPLY, BODY_TASKS},
    {"reply-sched", REPLY, BODY_SCHED},
    {"reply-explain", REPLY, BODY_EXPLAIN},
    {"reply-state", REPLY, BODY_STATE},
    {"reply-member", REPLY, BODY_MEMBER},
    {"reply-commit", REPLY, BODY_COMMIT},
    {"reply-seek", REPLY, BODY_SEEK},
    {"reply-members", REPLY, BODY_MEMBERS},
    {"reply-backup", REPLY, BODY_BACKUP},
    {"reply-worker-report", REPLY, BODY_WORKER_REPORT},
    {"reply-worker-list", REPLY, BODY_WORKER_LIST},
    {"reply-worker-control", REPLY, BODY_WORKER_CONTROL},
    {"packet-start", PACKET, PLUGIN_START},
    {"packet-task", PACKET, PLUGIN_TASK},
    {"packet-cancel", PACKET, PLUGIN_CANCEL},
    {"packet-stop", PACKET, PLUGIN_STOP},
    {"packet-ready", PACKET, PLUGIN_READY},
    {"packet-verdict", PACKET, PLUGIN_VERDICT},
    {"packet-log", PACKET, PLUGIN_LOG},
    {"packet-progress", PACKET, PLUGIN_PROGRESS},
    {"packet-extend", PACKET, PLUGIN_EXTEND},
};
const size_t kinds_n = ARRAY_LEN(kinds);

static void see(const struct kind *k, union message *m, struct see *v)
{
    switch (k->family) {
    case REQUEST:
        see_request(v, &m->request);
        break;
    case REPLY:
        see_reply(v, &m->reply);
        break;
    default:
        see_packet(v, &m->packet);
    }
}

void message_fill(const struct kind *k, union message *m, struct see *v)
{
    memset(m, 0, sizeof *m);
    switch (k->family) {
    case REQUEST:
        m->request.verb = (enum wire_verb)k->which;
        break;
    case REPLY:
        m->reply.body = (enum wire_body)k->which;
        break;
    default:
        m->packet.kind = (enum plugin_kind)k->which;
    }
    see(k, m, v);
}

void message_write(const struct kind *k, union message *m, struct see *v)
{
    v->mode = SEE_WRITE;
    buf_clear(&v->out);
    see(k, m, v);
}

size_t message_bound(const struct kind *k, const union message *m)
{
    switch (k->family) {
    case REQUEST:
        return codec_request_bound(&m->request);
    case REPLY:
        return codec_reply_bound(&m->reply);
    default:
        return codec_plugin_bound(&m->packet);
    }
}

int message_encode(const struct kind *k, const union message *m, struct codec_space *s)
{
    switch (k->family) {
    case REQUEST:
        return codec_request_encode(&m->request, s);
    case REPLY:
        return codec_reply_encode(&m->reply, s);
    default:
        return codec_plugin_encode(&m->packet, s);
    }
}

int message_decode(const struct kind *k, struct view bytes, union message *m, struct arena *a, struct err *e)
{
    switch (k->family) {
    case REQUEST:
        return codec_request_decode(bytes, &m->request, a, e);
    case REPLY:
        return codec_reply_decode(bytes, &m->reply, a, e);
    default:
        return codec_plugin_decode(bytes, &m->packet, a, e);
    }
}
