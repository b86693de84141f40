//! A map of bounded weight that forgets what was not asked for longest.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// See the module. One entry is always kept, however heavy it is.
#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    order: BTreeMap<u64, K>,
    tick: u64,
    weight: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Lru<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            tick: 0,
            weight: 0,
            limit,
        }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        self.tick += 1;
        self.order.remove(&entry.used);
        self.order.insert(self.tick, key.clone());
        entry.used = self.tick;
        Some(entry.value.clone())
    }

    pub(crate) fn put(&mut self, key: K, value: V, weight: usize) {
        self.tick += 1;
        let entry = Entry {
            value,
            weight,
            used: self.tick,
        };
        self.weight += weight;
        self.order.insert(self.tick, key.clone());
        if let Some(old) = self.entries.insert(key, entry) {
            self.weight -= old.weight;
            self.order.remove(&old.used);
        }
        while self.weight > self.limit && self.entries.len() > 1 {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            if let Some(old) = self.entries.remove(&oldest) {
                self.weight -= old.weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_what_was_not_asked_for_longest() {
        let mut lru = Lru::new(10);
        lru.put("a", 1, 4);
        lru.put("b", 2, 4);
        assert_eq!(lru.get(&"a"), Some(1));
        lru.put("c", 3, 4);
        assert_eq!((lru.get(&"b"), lru.get(&"a")), (None, Some(1)));
        lru.put("a", 9, 1);
        assert_eq!(lru.weight, 5);
        lru.put("huge", 4, 100);
        assert_eq!(lru.get(&"huge"), Some(4));
        assert_eq!(lru.entries.len(), 1);
        assert_eq!(lru.order.len(), 1);
    }
}
