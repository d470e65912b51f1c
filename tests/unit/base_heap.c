#include "unit.h"

#include <signal.h>

#include "base/heap.h"
#include "base/rng.h"

enum { NODES = 500 };

static void an_empty_heap_has_nothing_due(void **state)
{
    (void)state;
    struct heap h = {0};
    assert_null(heap_peek(&h));
    assert_null(heap_pop(&h));
    heap_free(&h);
}

static void a_heap_returns_nodes_by_due_time_then_by_order_of_insertion(void **state)
{
    (void)state;
    struct heap h = {0};
    static struct heap_node nodes[NODES];
    struct rng r;
    rng_seed(&r, 1);
    for (int i = 0; i < NODES; i++) {
        nodes[i].place = 0;
        heap_push(&h, &nodes[i], rng_below(&r, 20), heap_seq(&h));
    }
    const struct heap_node *last = NULL;
    for (int i = 0; i < NODES; i++) {
        struct heap_node *n = heap_peek(&h);
        assert_ptr_equal(heap_pop(&h), n);
        if (last != NULL && last->due == n->due)
            assert_true(last < n); /* they were pushed in the order of the array */
        else if (last != NULL)
            assert_true(last->due < n->due);
        last = n;
    }
    assert_null(heap_peek(&h));
    heap_free(&h);
}

static void due_times_are_compared_over_their_whole_range(void **state)
{
    (void)state;
    struct heap h = {0};
    struct heap_node never = {0}, now = {0}, later = {0};
    heap_push(&h, &never, UINT64_MAX, 1);
    heap_push(&h, &later, UINT64_C(1) << 40, 2);
    heap_push(&h, &now, 0, 3);
    assert_ptr_equal(heap_pop(&h), &now);
    assert_ptr_equal(heap_pop(&h), &later);
    assert_ptr_equal(heap_pop(&h), &never);
    heap_free(&h);
}

static void an_updated_node_takes_the_place_of_its_new_pair(void **state)
{
    (void)state;
    struct heap h = {0};
    struct heap_node a = {0}, b = {0}, c = {0};
    heap_push(&h, &a, 5, 1);
    heap_push(&h, &b, 5, 2);
    heap_push(&h, &c, 5, 3);
    heap_update(&h, &a, 5, 4); /* behind its equals */
    assert_ptr_equal(heap_peek(&h), &b);
    heap_update(&h, &c, 4, 9); /* in front of all */
    assert_ptr_equal(heap_peek(&h), &c);
    heap_update(&h, &c, 6, 0); /* behind all */
    assert_ptr_equal(heap_pop(&h), &b);
    assert_ptr_equal(heap_pop(&h), &a);
    assert_ptr_equal(heap_pop(&h), &c);
    heap_free(&h);
}

static void a_node_knows_whether_it_is_in_the_heap(void **state)
{
    (void)state;
    struct heap h = {0}, other = {0};
    struct heap_node a = {0}, b = {0};
    assert_false(heap_contains(&h, &a));
    heap_push(&h, &a, 1, 1);
    heap_push(&other, &b, 1, 1);
    assert_true(heap_contains(&h, &a));
    assert_false(heap_contains(&h, &b));
    heap_remove(&h, &a);
    assert_false(heap_contains(&h, &a));
    heap_push(&h, &a, 2, 2); /* and may come again */
    assert_ptr_equal(heap_pop(&h), &a);
    assert_false(heap_contains(&h, &a));
    heap_free(&h);
    heap_free(&other);
}

/* The first of the nodes marked as in the heap, found by looking at all of them. */
static struct heap_node *first_of(struct heap_node *nodes, const bool *in)
{
    struct heap_node *first = NULL;
    for (int i = 0; i < NODES; i++) {
        struct heap_node *n = &nodes[i];
        if (in[i] && (first == NULL || n->due < first->due || (n->due == first->due && n->seq < first->seq)))
            first = n;
    }
    return first;
}

static void pushes_moves_and_removals_in_any_order_keep_the_first_in_front(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct heap h = {0};
        struct heap_node nodes[NODES] = {0};
        bool in[NODES] = {false};
        size_t count = 0;
        struct rng r;
        rng_seed(&r, seed);
        for (int step = 0; step < 2000; step++) {
            size_t i = rng_below(&r, NODES);
            uint64_t due = rng_below(&r, 50);
            bool growing = step / 500 % 2 == 0; /* fills and empties, so that the array grows and shrinks */
            if (!in[i] && (growing || rng_chance(&r, 1, 4))) {
                heap_push(&h, &nodes[i], due, heap_seq(&h));
                in[i] = true;
                count++;
            } else if (in[i] && rng_chance(&r, 1, 2)) {
                heap_update(&h, &nodes[i], due, heap_seq(&h));
            } else if (in[i] && (!growing || rng_chance(&r, 1, 4))) {
                heap_remove(&h, &nodes[i]);
                in[i] = false;
                count--;
            } else if (!growing && count > 0) {
                in[heap_pop(&h) - nodes] = false;
                count--;
            }
            assert_int_equal(h.count, count);
            assert_ptr_equal(heap_peek(&h), first_of(nodes, in));
        }
        struct heap_node *last = NULL;
        for (struct heap_node *n; (n = heap_pop(&h)) != NULL; last = n)
            assert_true(last == NULL || last->due < n->due || (last->due == n->due && last->seq < n->seq));
        heap_free(&h);
    }
}

static void a_heap_gives_memory_back_when_it_empties(void **state)
{
    (void)state;
    struct heap h = {0};
    static struct heap_node nodes[10000];
    for (size_t i = 0; i < 10000; i++)
        heap_push(&h, &nodes[i], i, i);
    size_t full = h.cap;
    while (h.count > 10)
        heap_pop(&h);
    assert_true(h.cap < full / 50);
    heap_free(&h);
}

static void push_twice(void *arg)
{
    (void)arg;
    struct heap h = {0};
    struct heap_node n = {0};
    heap_push(&h, &n, 1, 1);
    heap_push(&h, &n, 2, 2);
}

static void pushing_a_node_twice_is_caught(void **state)
{
    (void)state;
    char said[400];
    assert_int_equal(death_of(push_twice, NULL, said, sizeof said), SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_heap_has_nothing_due),
        cmocka_unit_test(a_heap_returns_nodes_by_due_time_then_by_order_of_insertion),
        cmocka_unit_test(due_times_are_compared_over_their_whole_range),
        cmocka_unit_test(an_updated_node_takes_the_place_of_its_new_pair),
        cmocka_unit_test(a_node_knows_whether_it_is_in_the_heap),
        cmocka_unit_test(pushes_moves_and_removals_in_any_order_keep_the_first_in_front),
        cmocka_unit_test(a_heap_gives_memory_back_when_it_empties),
        cmocka_unit_test(pushing_a_node_twice_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
