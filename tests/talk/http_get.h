/* One HTTP request, by hand, so that anything can be sent. */
#ifndef TALK_HTTP_GET_H
#define TALK_HTTP_GET_H

#include <stddef.h>

struct http_reply {
    int status;
    char *text; /* all of it */
    char *body; /* in `text`, behind the empty line */
};

/* `address`: "127.0.0.1:port". The connection is closed after it. */
void http_get(const char *address, const char *method, const char *path, struct http_reply *out);
/* Sends `request` as it is; reads until the server closes, or has sent a whole reply. status 0: it closed without one. */
void http_send(const char *address, const char *request, size_t size, struct http_reply *out);
void http_reply_free(struct http_reply *r);
/* The value of a header, copied into `out`; "" if it is not there. */
const char *http_header(const struct http_reply *r, const char *name, char out[256]);

#endif
