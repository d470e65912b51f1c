#include "blame.h"

#include <stdarg.h>
#include <stdio.h>

void blame(struct blame *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    pthread_mutex_lock(&b->lock);
    if (!b->said)
        vsnprintf(b->text, sizeof b->text, fmt, args);
    b->said = true;
    pthread_mutex_unlock(&b->lock);
    va_end(args);
}

const char *blamed(struct blame *b)
{
    pthread_mutex_lock(&b->lock);
    const char *text = b->said ? b->text : NULL;
    pthread_mutex_unlock(&b->lock);
    return text;
}
