//! Pages that GitHub marked with an `ETag`: a conditional request for one of them costs nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The number of pages that are cached at most.
const PAGES: usize = 1024;
/// The bytes of all cached pages together at most.
const BYTES: usize = 32 * 1024 * 1024;

/// One page of an answer.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub etag: String,
    pub body: Arc<[u8]>,
    /// The address of the next page of the list.
    pub next: Option<String>,
}

/// Pages by address; the oldest make room for new ones.
#[derive(Debug, Default)]
pub(super) struct PageCache {
    by_address: HashMap<String, Page>,
    order: VecDeque<String>,
    bytes: usize,
}

impl PageCache {
    pub(super) fn get(&self, address: &str) -> Option<Page> {
        self.by_address.get(address).cloned()
    }

    pub(super) fn insert(&mut self, address: &str, page: Page) {
        self.bytes += page.body.len();
        if let Some(old) = self.by_address.insert(address.to_owned(), page) {
            self.bytes -= old.body.len();
        } else {
            self.order.push_back(address.to_owned());
        }
        while (self.by_address.len() > PAGES || self.bytes > BYTES) && !self.order.is_empty() {
            if let Some(old) = self.order.pop_front().and_then(|a| self.by_address.remove(&a)) {
                self.bytes -= old.body.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_is_bounded_in_pages_and_bytes() {
        let mut cache = PageCache::default();
        let page = |size: usize| Page { etag: "e".into(), body: vec![0; size].into(), next: None };
        for n in 0..PAGES + 10 {
            cache.insert(&n.to_string(), page(10));
        }
        assert_eq!((cache.by_address.len(), cache.bytes), (PAGES, PAGES * 10));
        cache.insert("large", page(BYTES));
        assert!(cache.bytes <= BYTES && cache.by_address.contains_key("large"));
    }
}
