#include "unit.h"

#include "schemas/codec.h"
#include "schemas/errors.h"

static const char body[] =
    "the quick brown fox jumps over the lazy dog, again and again, until somebody flips a bit";

enum { BODY = sizeof body, WHOLE = FRAME_SIZE + BODY, PUB_WHOLE = PUB_FRAME_SIZE + BODY };

static void make(uint8_t whole[WHOLE], struct frame f)
{
    memcpy(whole + FRAME_SIZE, body, BODY);
    frame_put(whole, f, whole + FRAME_SIZE, BODY);
}

static void a_frame_comes_back(void **state)
{
    (void)state;
    uint8_t whole[WHOLE];
    make(whole, (struct frame){WIRE_VERSION, VERB_SETTLE, FRAME_REPLY});
    struct frame f;
    assert_int_equal(frame_check(whole, WHOLE, &f, NULL), E_OK);
    assert_int_equal(f.version, WIRE_VERSION);
    assert_int_equal(f.verb, VERB_SETTLE);
    assert_int_equal(f.flags, FRAME_REPLY);
}

static void a_frame_whose_end_lies_elsewhere_is_the_same(void **state)
{
    (void)state;
    uint8_t whole[WHOLE], head[FRAME_SIZE];
    const struct frame f = {WIRE_VERSION, VERB_PRODUCE, 0};
    make(whole, f);
    for (size_t at = 0; at <= BODY; at++) {
        frame_put_apart(head, f, view_of(body, at), view_of(body + at, BODY - at));
        assert_memory_equal(head, whole, FRAME_SIZE);
    }
}

static void a_frame_without_a_body_is_good(void **state)
{
    (void)state;
    uint8_t head[FRAME_SIZE];
    struct frame f;
    frame_put(head, (struct frame){WIRE_VERSION, VERB_BYE, 0}, head + FRAME_SIZE, 0);
    assert_int_equal(frame_check(head, FRAME_SIZE, &f, NULL), E_OK);
}

/* Others speak this protocol too: these bytes may not change. */
static void the_bytes_of_a_frame_are_these(void **state)
{
    (void)state;
    static const uint8_t expected[FRAME_SIZE] = {0x53, 0x01, 0x03, 0x00, 0x7d, 0x51,
                                                 0xdc, 0xef, 0xf9, 0x3b, 0xdf, 0x54};
    uint8_t whole[WHOLE];
    make(whole, (struct frame){WIRE_VERSION, VERB_PRODUCE, 0});
    assert_memory_equal(whole, expected, FRAME_SIZE);
}

static void any_flipped_bit_of_head_or_body_is_noticed(void **state)
{
    (void)state;
    uint8_t whole[WHOLE];
    make(whole, (struct frame){WIRE_VERSION, VERB_PRODUCE, 0});
    for (size_t bit = 0; bit < 8 * WHOLE; bit++) {
        struct frame f;
        whole[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(frame_check(whole, WHOLE, &f, NULL), E_BAD_FRAME);
        whole[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void a_cut_frame_is_refused(void **state)
{
    (void)state;
    uint8_t whole[WHOLE];
    make(whole, (struct frame){WIRE_VERSION, VERB_PRODUCE, 0});
    for (size_t size = 0; size < WHOLE; size++) {
        struct frame f;
        assert_int_equal(frame_check(whole, size, &f, NULL), E_BAD_FRAME);
    }
}

static void another_version_is_told_from_damage_and_still_read(void **state)
{
    (void)state;
    uint8_t whole[WHOLE];
    struct frame f;
    struct err e = {0};
    make(whole, (struct frame){WIRE_VERSION + 1, VERB_PRODUCE, 0});
    assert_int_equal(frame_check(whole, WHOLE, &f, &e), E_BAD_VERSION);
    assert_has(e.text, "version 2");
    assert_int_equal(f.version, WIRE_VERSION + 1);
    assert_int_equal(f.verb, VERB_PRODUCE);
    whole[WHOLE - 1] ^= 1;
    assert_int_equal(frame_check(whole, WHOLE, &f, &e), E_BAD_FRAME);
    assert_int_equal(f.verb, VERB_PRODUCE);
}

static void make_pub(uint8_t whole[PUB_WHOLE], enum pub_kind kind)
{
    memcpy(whole + PUB_FRAME_SIZE, body, BODY);
    pub_frame_put(whole, kind, VIEW_LIT("photos"), whole + PUB_FRAME_SIZE, BODY);
}

static void a_published_frame_comes_back_with_its_channel(void **state)
{
    (void)state;
    for (enum pub_kind kind = PUB_AVAIL; kind <= PUB_LIVE; kind++) {
        uint8_t whole[PUB_WHOLE];
        enum pub_kind back;
        uint32_t channel;
        make_pub(whole, kind);
        assert_int_equal(pub_frame_check(whole, PUB_WHOLE, &back, &channel, NULL), E_OK);
        assert_int_equal(back, kind);
        assert_int_equal(channel, pub_channel_hash(VIEW_LIT("photos")));
    }
}

static void any_flipped_bit_and_any_cut_of_a_published_frame_is_noticed(void **state)
{
    (void)state;
    uint8_t whole[PUB_WHOLE];
    enum pub_kind kind;
    uint32_t channel;
    make_pub(whole, PUB_LAG);
    for (size_t bit = 0; bit < 8 * PUB_WHOLE; bit++) {
        whole[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(pub_frame_check(whole, PUB_WHOLE, &kind, &channel, NULL), E_BAD_FRAME);
        whole[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t size = 0; size < PUB_WHOLE; size++)
        assert_int_equal(pub_frame_check(whole, size, &kind, &channel, NULL), E_BAD_FRAME);
}

static void an_unknown_kind_is_refused(void **state)
{
    (void)state;
    uint8_t whole[PUB_WHOLE];
    enum pub_kind kind;
    uint32_t channel;
    make_pub(whole, (enum pub_kind)4);
    assert_int_equal(pub_frame_check(whole, PUB_WHOLE, &kind, &channel, NULL), E_BAD_FRAME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_comes_back),
        cmocka_unit_test(a_frame_whose_end_lies_elsewhere_is_the_same),
        cmocka_unit_test(a_frame_without_a_body_is_good),
        cmocka_unit_test(the_bytes_of_a_frame_are_these),
        cmocka_unit_test(any_flipped_bit_of_head_or_body_is_noticed),
        cmocka_unit_test(a_cut_frame_is_refused),
        cmocka_unit_test(another_version_is_told_from_damage_and_still_read),
        cmocka_unit_test(a_published_frame_comes_back_with_its_channel),
        cmocka_unit_test(any_flipped_bit_and_any_cut_of_a_published_frame_is_noticed),
        cmocka_unit_test(an_unknown_kind_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
