//! Small numbers for many ordinals.

use serde::{Deserialize, Serialize};

use super::{Ordinal, UnitSet};

/// A small number for each ordinal, zero unless it was counted up: one bitmap for each binary digit, so that the
/// many that never failed cost nothing and a million that failed alike cost almost nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counters {
    digits: Vec<UnitSet>,
}

impl Counters {
    /// Adds one for every unit of the set.
    pub fn increment(&mut self, units: &UnitSet) {
        let mut carry = units.clone();
        let mut digit = 0;
        while !carry.is_empty() {
            if digit == self.digits.len() {
                self.digits.push(UnitSet::new());
            }
            let set = &mut self.digits[digit];
            let next = set.and(&carry);
            set.0 ^= &carry.0;
            carry = next;
            digit += 1;
        }
    }

    /// Sets it to zero for every unit of the set.
    pub fn reset(&mut self, units: &UnitSet) {
        for digit in &mut self.digits {
            digit.remove(units);
        }
        while self.digits.last().is_some_and(UnitSet::is_empty) {
            self.digits.pop();
        }
    }

    /// All units whose number is not zero.
    #[must_use]
    pub fn units(&self) -> UnitSet {
        let mut all = UnitSet::new();
        self.digits.iter().for_each(|digit| all.add(digit));
        all
    }

    /// The units whose number is not the same in both.
    #[must_use]
    pub fn differing(&self, other: &Self) -> UnitSet {
        let (long, short) = if self.digits.len() < other.digits.len() {
            (other, self)
        } else {
            (self, other)
        };
        let mut found = UnitSet::new();
        for (i, digit) in long.digits.iter().enumerate() {
            match short.digits.get(i) {
                Some(same) => found.add(&digit.xor(same)),
                None => found.add(digit),
            }
        }
        found
    }

    /// The number of one unit.
    #[must_use]
    pub fn get(&self, unit: Ordinal) -> u32 {
        self.digits
            .iter()
            .take(32)
            .enumerate()
            .filter(|(_, digit)| digit.contains(unit))
            .fold(0, |sum, (i, _)| sum | 1 << i)
    }

    /// The units of the set by their numbers, in ascending order of number.
    #[must_use]
    pub fn split(&self, units: &UnitSet) -> Vec<(u32, UnitSet)> {
        let mut parts = vec![(0u32, units.clone())];
        for (i, digit) in self.digits.iter().enumerate().take(32) {
            let mut next = Vec::with_capacity(parts.len() * 2);
            for (number, part) in parts {
                let ones = part.and(digit);
                if ones.is_empty() {
                    next.push((number, part));
                } else {
                    let zeros = part.minus(&ones);
                    if !zeros.is_empty() {
                        next.push((number, zeros));
                    }
                    next.push((number | 1 << i, ones));
                }
            }
            parts = next;
        }
        parts.retain(|(_, part)| !part.is_empty());
        parts.sort_by_key(|(number, _)| *number);
        parts
    }

    /// Those of the set whose number is at least this.
    #[must_use]
    pub fn at_least(&self, least: u32, units: &UnitSet) -> UnitSet {
        self.split(units)
            .into_iter()
            .filter(|(number, _)| *number >= least)
            .fold(UnitSet::new(), |mut all, (_, part)| {
                all.add(&part);
                all
            })
    }
}
