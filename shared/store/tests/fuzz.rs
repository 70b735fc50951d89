//! Arbitrary page tokens.
#![allow(missing_docs)]

use access::error::{Error, Reason};
use proptest::{collection::vec, prelude::*, sample::Index};
use store::page::Page;
use testing::token_corpus::{self, base64};

/// One case takes microseconds.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

type Key = (i64, String);

/// The token of the page after this key.
fn token(list: &str, key: &Key) -> String {
    let page: Page<Key> = Page::new(1, "", list).expect("the first page");
    page.truncate(vec![(); 2], |()| key.clone()).expect("a page and another").1
}

fn assert_refused(outcome: Result<Page<Key>, Error>) {
    match outcome {
        Err(Error::Invalid(Reason::PageTokenInvalid, violations)) => assert_eq!(violations[0].field.to_string(), "page_token"),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn arbitrary_text_is_no_page_token(size in any::<i32>(), token in ".+", list in any::<String>()) {
        assert_refused(Page::new(size, &token, list));
    }

    #[test]
    fn arbitrary_bytes_are_no_page_token(size in any::<i32>(), token in vec(any::<u8>(), 1..200), list in any::<String>()) {
        assert_refused(Page::new(size, &base64(&token), list));
    }

    #[test]
    fn a_page_token_brings_its_key_back(key in any::<Key>(), list in any::<String>()) {
        let page: Page<Key> = Page::new(0, &token(&list, &key), &list).expect("the next page");
        prop_assert_eq!(page.after(), Some(&key));
    }

    #[test]
    fn a_page_token_of_another_list_is_refused(key in any::<Key>(), list in any::<String>(), other in any::<String>()) {
        prop_assume!(list != other);
        assert_refused(Page::new(0, &token(&list, &key), other));
    }

    #[test]
    fn the_fields_of_a_list_do_not_run_into_one_another(key in any::<Key>(), one in "[ab\",]{0,3}", two in "[ab\",]{0,3}", cut in any::<Index>()) {
        let both = format!("{one}{two}");
        let cut = cut.index(both.len() + 1);
        prop_assume!(cut != one.len());
        let page: Page<Key> = Page::new(1, "", (&one, &two)).expect("the first page");
        let (_, token) = page.truncate(vec![(); 2], |()| key.clone()).expect("a page and another");
        assert_refused(Page::new(1, &token, (&both[..cut], &both[cut..])));
    }

    /// The first part of a page token names its list; the rest is a key or is rejected.
    #[test]
    fn a_changed_page_token_is_refused_or_has_another_key(key in any::<Key>(), at in any::<Index>(), byte in any::<u8>()) {
        let mut token = token_corpus::bytes(&token("a list", &key));
        let at = at.index(token.len());
        prop_assume!(token[at] != byte);
        token[at] = byte;
        let outcome = Page::new(0, &base64(&token), "a list");
        if at < 9 {
            assert_refused(outcome);
        } else if let Ok(page) = outcome {
            prop_assert!(page.after().is_some());
        }
    }

    #[test]
    fn a_page_holds_one_to_a_thousand_rows(size in any::<i32>()) {
        let page: Page<Key> = Page::new(size, "", "a list").expect("a page");
        prop_assert!((2..=1001).contains(&page.limit()));
    }
}

#[test]
fn a_page_token_of_deep_nesting_is_refused() {
    let mut token = token_corpus::bytes(&token("a list", &(0, String::new())));
    token.truncate(9);
    token.extend("[".repeat(100_000).bytes());
    assert_refused(Page::new(0, &base64(token), "a list"));
}
