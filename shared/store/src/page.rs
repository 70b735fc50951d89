//! Keyset pagination (AIP-158): a page begins after the last row of the page before, even if the list has changed since.

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use access::{
    Id,
    error::{Error, Reason, Result, Violation},
    text_size::TextSize,
};

/// The largest size of a page in JSON or XML, in bytes. gRPC clients commonly reject a message of more than 4 MiB, and its binary
/// encoding is smaller.
pub const PAGE_BYTES: usize = 1 << 20;

/// The page size for requests that do not name one.
const DEFAULT_SIZE: i64 = 50;
/// The largest page size.
const LARGEST_SIZE: i64 = 1000;
/// The version of the token format, which is the first byte of a token.
const VERSION: u8 = 1;

/// A requested page: its size, and the key `K` that it begins after.
#[derive(Debug)]
pub struct Page<K> {
    size: i64,
    after: Option<K>,
    list: [u8; 8],
}

impl<K: Serialize + DeserializeOwned> Page<K> {
    /// Parses `page_size` and `page_token`. A size of 0 means 50 rows, and any other is clamped to 1 to 1000. `list` identifies
    /// the list, its filter and its order; a token of another list is rejected.
    ///
    /// # Errors
    ///
    /// Returns INVALID_ARGUMENT that names `page_token` if it is not a token of this list.
    pub fn new(page_size: i32, page_token: &str, list: impl Serialize) -> Result<Self> {
        let size = if page_size == 0 { DEFAULT_SIZE } else { i64::from(page_size).clamp(1, LARGEST_SIZE) };
        let list = fingerprint(&list)?;
        if page_token.is_empty() {
            return Ok(Self { size, after: None, list });
        }
        let key = BASE64_URL_SAFE_NO_PAD.decode(page_token).ok().and_then(|token| {
            let key = token.strip_prefix(&[VERSION])?.strip_prefix(&list)?;
            serde_json::from_slice(key).ok()
        });
        match key {
            Some(key) => Ok(Self { size, after: Some(key), list }),
            None => Err(Error::Invalid(
                Reason::PageTokenInvalid,
                vec![Violation::new(
                    "page_token",
                    "page_token.same_list",
                    "must be the next_page_token of this list with the same filter",
                )],
            )),
        }
    }

    /// Returns the key that the page begins after, or `None` for the first page.
    pub fn after(&self) -> Option<&K> {
        self.after.as_ref()
    }

    /// Returns the `LIMIT` of the query: one row more than the page holds, to see whether another page follows.
    pub fn limit(&self) -> i64 {
        self.size + 1
    }

    /// Truncates the rows that the query returned to one page, and returns them with the token of the next page. The token is empty
    /// on the last page.
    pub fn truncate<R>(&self, mut rows: Vec<R>, key: impl Fn(&R) -> K) -> Result<(Vec<R>, String)> {
        let keep = usize::try_from(self.size).unwrap_or(usize::MAX);
        if rows.len() <= keep {
            return Ok((rows, String::new()));
        }
        rows.truncate(keep);
        let token = rows.last().map(|last| self.token(&key(last))).transpose()?;
        Ok((rows, token.unwrap_or_default()))
    }

    /// Converts the rows to messages, and truncates them like [`Page::truncate`], and also before the message with which the page
    /// would exceed [`PAGE_BYTES`]. A page holds at least one message.
    pub fn truncate_messages<R, M: TextSize>(
        &self,
        rows: Vec<R>,
        key: impl Fn(&R) -> K,
        mut message: impl FnMut(R) -> M,
    ) -> Result<(Vec<M>, String)> {
        let keep = usize::try_from(self.size).unwrap_or(usize::MAX);
        let (mut messages, mut bytes, mut last) = (Vec::with_capacity(rows.len()), 0, None);
        for row in rows {
            let row_key = key(&row);
            let message = message(row);
            bytes += message.text_size();
            match &last {
                Some(last) if messages.len() == keep || bytes > PAGE_BYTES => return Ok((messages, self.token(last)?)),
                _ => {}
            }
            messages.push(message);
            last = Some(row_key);
        }
        Ok((messages, String::new()))
    }

    /// Returns the token of the page after the row with this key.
    fn token(&self, key: &K) -> Result<String> {
        let mut token = vec![VERSION];
        token.extend(self.list);
        serde_json::to_writer(&mut token, key).map_err(Error::internal)?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(token))
    }
}

/// The position of a row in a list that is ordered by time: its creation time in microseconds since 1970, and its id.
pub type TimeCursor<T> = (i64, Id<T>);

/// Returns the time and the id before which a page of a newest-first list begins, as [`time_bound`] does.
pub fn before<T>(after: Option<TimeCursor<T>>) -> (DateTime<Utc>, Id<T>) {
    time_bound(after, true)
}

/// Returns the time and the id before which a page of a newest-first list begins, or after which a page of an oldest-first list begins.
/// The time is clamped to the years that both engines support, since clients can forge page tokens.
///
/// # Panics
///
/// Never: both engines and chrono represent every clamped time.
pub fn time_bound<T>(after: Option<TimeCursor<T>>, is_descending: bool) -> (DateTime<Utc>, Id<T>) {
    /// The first microsecond of the year 1.
    const FIRST: i64 = -62_135_596_800_000_000;
    /// The last microsecond of the year 9999.
    const LAST: i64 = 253_402_300_799_999_999;
    let start = if is_descending { (LAST, Uuid::max().into()) } else { (FIRST, Uuid::nil().into()) };
    let (micros, id) = after.unwrap_or(start);
    let time = DateTime::from_timestamp_micros(micros.clamp(FIRST, LAST));
    (time.expect("the time was clamped to the years 1 to 9999"), id)
}

/// Returns the value of `total_size` (AIP-158) for a number of rows: at most the largest `i32`.
pub fn total_size(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn fingerprint(list: &impl Serialize) -> Result<[u8; 8]> {
    let list = serde_json::to_vec(list).map_err(Error::internal)?;
    let digest = digest::digest(&digest::SHA256, &list);
    let mut fingerprint = [0; 8];
    fingerprint.copy_from_slice(&digest.as_ref()[..8]);
    Ok(fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(size: i32, token: &str, list: &str) -> Result<Page<u32>> {
        Page::new(size, token, list)
    }

    #[test]
    fn a_size_is_capped_and_zero_is_the_default() {
        assert_eq!(page(0, "", "a").expect("a page").limit(), 51);
        assert_eq!(page(7, "", "a").expect("a page").limit(), 8);
        assert_eq!(page(5000, "", "a").expect("a page").limit(), 1001);
    }

    #[test]
    fn pages_follow_one_another_to_the_end() {
        let all: Vec<u32> = (0..7).collect();
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let page = page(3, &token, "a").expect("a page");
            let rows = all.iter().copied().filter(|n| page.after().is_none_or(|after| n > after)).take(4).collect();
            let (rows, next) = page.truncate(rows, |row| *row).expect("a cut");
            assert!(rows.len() <= 3);
            seen.extend(rows);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(seen, all);
    }

    /// A message of this size.
    #[derive(Debug, PartialEq, Eq)]
    struct Sized(usize);

    impl TextSize for Sized {
        fn text_size(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn a_page_is_truncated_to_bytes_but_never_empty() {
        let page = page(3, "", "a").expect("a page");
        let cut = |rows: Vec<u32>| {
            let message = |row: u32| Sized(row as usize * PAGE_BYTES / 10);
            let (messages, token) = page.truncate_messages(rows, |row| *row, message).expect("a cut");
            (messages.len(), !token.is_empty())
        };
        assert_eq!(cut(vec![4, 6, 1]), (2, true));
        assert_eq!(cut(vec![11, 1]), (1, true));
        assert_eq!(cut(vec![1, 1, 1, 1]), (3, true));
        assert_eq!(cut(vec![1, 1, 1]), (3, false));
        assert_eq!(cut(Vec::new()), (0, false));
    }

    #[test]
    fn a_list_goes_on_from_any_moment_that_a_client_makes_up() {
        let id: access::UserId = Uuid::max().into();
        assert_eq!(before(None), before(Some((i64::MAX, id))));
        assert_eq!(before(Some((i64::MIN, id))).0, time_bound::<()>(None, false).0);
    }

    #[test]
    fn a_token_of_another_list_or_a_damaged_one_is_refused() {
        let (_, token) = page(1, "", "a").expect("a page").truncate(vec![1, 2], |row| *row).expect("a cut");
        assert!(page(1, &token, "a").is_ok());
        for (token, list) in [(token.as_str(), "b"), ("!", "a"), ("AAAA", "a"), (&token[..token.len() - 1], "a")] {
            let error = page(1, token, list).expect_err("a refusal");
            assert_eq!(error.reason(), Reason::PageTokenInvalid.into());
        }
    }
}
