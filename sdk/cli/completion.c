/*
 * sluice completion bash | zsh | fish
 *
 * The scripts are a few lines that know nothing: at each Tab they ask `sluice completion words -- WORD...` for what may stand
 * in place of the last WORD, one "word<tab>meaning" a line, or the one line ":file" for names of files. So what is completed
 * is what this version understands, names of topics and groups included.
 */
#include <string.h>

#include "base/macros.h"
#include "cli/client.h"
#include "cli/help.h"
#include "cli/out.h"

static const char bash_script[] =
    "_sluice() {\n"
    "    local line=${COMP_LINE:0:COMP_POINT} current words word reply\n"
    "    read -ra words <<<\"$line\"\n"
    "    [[ $line == *[[:space:]] ]] && words+=(\"\")\n"
    "    current=${words[-1]}\n"
    "    COMPREPLY=()\n"
    "    while IFS=$'\\t' read -r word _; do\n"
    "        if [[ $word == :file ]]; then\n"
    "            mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
    "            compopt -o filenames 2>/dev/null\n"
    "        elif [[ $word == \"$current\"* ]]; then\n"
    "            COMPREPLY+=(\"$word\")\n"
    "        fi\n"
    "    done < <(\"${words[0]}\" completion words -- \"${words[@]:1}\" 2>/dev/null)\n"
    "}\n"
    "complete -F _sluice sluice\n";

static const char zsh_script[] =
    "#compdef sluice\n"
    "_sluice() {\n"
    "    local -a found\n"
    "    local word meaning\n"
    "    while IFS=$'\\t' read -r word meaning; do\n"
    "        if [[ $word == :file ]]; then _files; return; fi\n"
    "        found+=(\"${word//:/\\\\:}:$meaning\")\n"
    "    done < <(\"${words[1]}\" completion words -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)\n"
    "    _describe 'sluice' found\n"
    "}\n"
    "compdef _sluice sluice\n";

static const char fish_script[] =
    "function __sluice_words\n"
    "    set -l words (commandline -opc)\n"
    "    set -l current (commandline -ct)\n"
    "    set -l found ($words[1] completion words -- $words[2..-1] \"$current\" 2>/dev/null)\n"
    "    if test \"$found[1]\" = ':file'\n"
    "        __fish_complete_path (commandline -ct)\n"
    "    else\n"
    "        printf '%s\\n' $found\n"
    "    end\n"
    "end\n"
    "complete -c sluice -f -a '(__sluice_words)'\n";

static const struct {
    const char *shell, *script;
} scripts[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};

/* ---- words ---- */

static void say_word(const char *word, const char *meaning)
{
    out_text("%s\t%s\n", word, meaning);
}

static void say_options(const struct option *list)
{
    for (const struct option *o = list; o->name != NULL; o++)
        out_text("--%s\t%s\n", o->name, o->help);
}

static void say_choices(const char *choices)
{
    const char *word;
    for (size_t size; (size = word_next(&choices, "|", &word)) != 0;) {
        if (word[0] >= 'a' && word[0] <= 'z')
            out_text("%.*s\t\n", (int)size, word);
    }
}

/* Where on a line the word stands that is to be completed. */
struct place {
    const char *noun, *verb;      /* NULL: not there yet */
    const struct option *waiting; /* the option whose value it is; NULL: none */
    size_t operands;              /* that stand before it */
    const char *broker;           /* -b of the line; NULL: none */
};

/* A session for the names that the broker knows: a Tab does not wait long. */
static struct sluice *ask_broker(const struct place *p)
{
    enum { WAIT_MS = 500 };
    struct sluice *s;
    const struct sluice_options options = {.size = sizeof options,
                                           .broker = p->broker,
                                           .connect_timeout_ms = WAIT_MS,
                                           .request_timeout_ms = WAIT_MS};
    return sluice_open(&s, &options, NULL) == 0 ? s : NULL;
}

static void say_topics(const struct place *p)
{
    struct sluice *s = ask_broker(p);
    struct sluice_topic_list *l = NULL;
    if (s != NULL && sluice_topics(s, NULL, &l, NULL) == 0) {
        for (size_t i = 0; i < l->count; i++)
            say_word(l->topics[i].name, "topic");
    }
    sluice_topics_free(l);
    if (s != NULL)
        sluice_close(s, 0, NULL, NULL);
}

static void say_groups(const struct place *p)
{
    struct sluice *s = ask_broker(p);
    struct sluice_group_list *l = NULL;
    if (s != NULL && sluice_groups(s, NULL, NULL, &l, NULL) == 0) {
        for (size_t i = 0; i < l->count; i++)
            say_word(l->groups[i].name, l->groups[i].topic);
    }
    sluice_groups_free(l);
    if (s != NULL)
        sluice_close(s, 0, NULL, NULL);
}

/* Names of handlers that run somewhere, or of the daemons that run them. */
static void say_workers(const struct place *p, bool daemons)
{
    struct sluice *s = ask_broker(p);
    struct sluice_worker_list *l = NULL;
    if (s != NULL && sluice_workers(s, NULL, &l, NULL) == 0) {
        for (size_t i = 0; i < l->count; i++) {
            const struct sluice_worker *w = &l->rows[i];
            for (size_t n = 0; n < w->handlers_count && !daemons; n++)
                say_word(w->handlers[n].name, w->handlers[n].topic);
            if (daemons)
                say_word(w->name, w->host);
        }
    }
    sluice_workers_free(l);
    if (s != NULL)
        sluice_close(s, 0, NULL, NULL);
}

/* What may stand for a name of the table: "TOPIC", "disk|os", "[FILE]". */
static void say_values(const struct place *p, const char *name, size_t size)
{
    char plain[64];
    if (size >= sizeof plain)
        return;
    memcpy(plain, name, size);
    plain[size] = '\0';
    if (strcmp(plain, "TOPIC") == 0)
        say_topics(p);
    else if (strcmp(plain, "GROUP") == 0 || strcmp(plain, "[GROUP]") == 0)
        say_groups(p);
    else if (strcmp(plain, "HANDLER") == 0 || strcmp(plain, "DAEMON") == 0)
        say_workers(p, plain[0] == 'D');
    else if (strcmp(plain, "[FILE]") == 0 || strcmp(plain, "X.so") == 0)
        out_text(":file\n");
    else
        say_choices(plain);
}

static void say_nouns(void)
{
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *c = &commands[i];
        if (i > 0 && strcmp(commands[i - 1].noun, c->noun) == 0)
            continue;
        out_text("%s\t%s\n", c->noun, c->verb == NULL ? c->summary : "");
    }
}

static void say_verbs(const char *noun)
{
    for (size_t i = 0; i < commands_count; i++) {
        if (strcmp(commands[i].noun, noun) == 0)
            say_word(commands[i].verb, commands[i].summary);
    }
}

/* The operand of the command that stands in this place. */
static void say_operand(const struct place *p, const struct command *c)
{
    const char *at = c->operands, *word;
    size_t n = 0;
    for (size_t size; (size = word_next(&at, " ", &word)) != 0; n++) {
        if (n == p->operands)
            say_values(p, word, size);
    }
}

/* The option of "--name" or "-x" that takes the next word as its value, or NULL. */
static const struct option *waits_for_value(const char *word)
{
    const struct option *o = NULL;
    if (word[1] == '-')
        o = command_option(NULL, word + 2, strlen(word + 2));
    else if (word[2] == '\0')
        o = command_letter(NULL, word[1]);
    return o != NULL && o->kind != OPTION_SWITCH ? o : NULL;
}

/* Reads words that need not be a whole line. */
static struct place find_place(const char *const *words, size_t count)
{
    struct place p = {0};
    for (size_t i = 0; i < count; i++) {
        const char *word = words[i];
        if (p.waiting != NULL) {
            if (p.waiting->letter == 'b')
                p.broker = word;
            p.waiting = NULL;
        } else if (word[0] == '-' && word[1] != '\0') {
            p.waiting = waits_for_value(word);
        } else if (p.noun == NULL) {
            p.noun = word;
        } else if (p.verb == NULL && noun_has_verbs(p.noun)) {
            p.verb = word;
        } else {
            p.operands++;
        }
    }
    return p;
}

/* Completes the last of `words`. */
static void say_words(const char *const *words, size_t count)
{
    const char *current = count > 0 ? words[count - 1] : "";
    struct place p = find_place(words, count > 0 ? count - 1 : 0);
    const struct command *c = p.noun != NULL ? command_find(p.noun, p.verb) : NULL;
    if (p.waiting != NULL && c != NULL) /* what the value means, the command knows */
        p.waiting = command_option(c, p.waiting->name, strlen(p.waiting->name));
    if (p.waiting != NULL) {
        say_values(&p, p.waiting->value, strlen(p.waiting->value));
    } else if (current[0] == '-') {
        if (c != NULL)
            say_options(c->options);
        say_options(options_everywhere);
    } else if (p.noun == NULL) {
        say_nouns();
    } else if (c == NULL) {
        say_verbs(p.noun);
    } else {
        say_operand(&p, c);
    }
}

int completion(const struct args *a)
{
    const char *shell = args_operand(a, 0);
    if (strcmp(shell, "words") == 0) {
        say_words(a->operands + 1, a->operands_count - 1);
        return STATUS_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
        if (strcmp(scripts[i].shell, shell) == 0 && a->operands_count == 1) {
            out_text("%s", scripts[i].script);
            return STATUS_OK;
        }
    }
    return help_refuse(a, "'%.60s' is not one of bash|zsh|fish", shell);
}
