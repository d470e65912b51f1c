#include "unit.h"

#include "base/list.h"

struct item {
    char name;
    struct list_node node;
};

/* The names in the list, forwards, after checking that it reads the same backwards. */
static const char *names(const struct list *l)
{
    static char text[32];
    size_t size = 0;
    LIST_EACH (n, l)
        text[size++] = container_of(n, struct item, node)->name;
    text[size] = '\0';
    for (const struct list_node *n = list_last(l); n != NULL && n != &l->head; n = n->prev)
        assert_int_equal(text[--size], container_of(n, struct item, node)->name);
    assert_int_equal(size, 0);
    return text;
}

static struct item a, b, c, d;
static struct list list;

static int make_items(void **state)
{
    (void)state;
    a = (struct item){.name = 'a'};
    b = (struct item){.name = 'b'};
    c = (struct item){.name = 'c'};
    d = (struct item){.name = 'd'};
    list_init(&list);
    return 0;
}

static void an_empty_list_has_no_ends(void **state)
{
    (void)state;
    assert_true(list_empty(&list));
    assert_null(list_first(&list));
    assert_null(list_last(&list));
    assert_null(list_pop_front(&list));
    assert_string_equal(names(&list), "");
}

static void nodes_stand_where_they_were_put(void **state)
{
    (void)state;
    list_push_back(&list, &b.node);
    list_push_back(&list, &d.node);
    list_push_front(&list, &a.node);
    list_insert_before(&d.node, &c.node);
    assert_string_equal(names(&list), "abcd");
    assert_ptr_equal(list_first(&list), &a.node);
    assert_ptr_equal(list_last(&list), &d.node);
    assert_ptr_equal(list_after(&list, &a.node), &b.node);
    assert_null(list_after(&list, &d.node));
}

static void a_removed_node_is_in_no_list_and_may_come_again(void **state)
{
    (void)state;
    list_push_back(&list, &a.node);
    list_push_back(&list, &b.node);
    list_push_back(&list, &c.node);
    assert_true(list_linked(&b.node));
    list_remove(&b.node);
    assert_false(list_linked(&b.node));
    assert_string_equal(names(&list), "ac");
    list_remove(&b.node); /* once more does no harm */
    assert_string_equal(names(&list), "ac");
    list_push_back(&list, &b.node);
    assert_string_equal(names(&list), "acb");
}

static void popping_takes_the_first(void **state)
{
    (void)state;
    list_push_back(&list, &a.node);
    list_push_back(&list, &b.node);
    assert_ptr_equal(list_pop_front(&list), &a.node);
    assert_false(list_linked(&a.node));
    assert_ptr_equal(list_pop_front(&list), &b.node);
    assert_null(list_pop_front(&list));
}

static void splicing_moves_all_behind_all(void **state)
{
    (void)state;
    struct list other;
    list_init(&other);
    list_splice(&list, &other);
    assert_string_equal(names(&list), "");
    list_push_back(&other, &c.node);
    list_push_back(&other, &d.node);
    list_splice(&list, &other);
    assert_string_equal(names(&list), "cd");
    assert_true(list_empty(&other));
    list_push_back(&other, &a.node);
    list_splice(&list, &other);
    assert_string_equal(names(&list), "cda");
    list_splice(&list, &other);
    assert_string_equal(names(&list), "cda");
}

static void the_visited_node_may_be_taken_out(void **state)
{
    (void)state;
    list_push_back(&list, &a.node);
    list_push_back(&list, &b.node);
    list_push_back(&list, &c.node);
    int visited = 0;
    LIST_EACH_SAFE (n, &list) {
        visited++;
        if (n != &b.node)
            list_remove(n);
    }
    assert_int_equal(visited, 3);
    assert_string_equal(names(&list), "b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_empty_list_has_no_ends, make_items),
        cmocka_unit_test_setup(nodes_stand_where_they_were_put, make_items),
        cmocka_unit_test_setup(a_removed_node_is_in_no_list_and_may_come_again, make_items),
        cmocka_unit_test_setup(popping_takes_the_first, make_items),
        cmocka_unit_test_setup(splicing_moves_all_behind_all, make_items),
        cmocka_unit_test_setup(the_visited_node_may_be_taken_out, make_items),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
