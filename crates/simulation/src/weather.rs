//! What goes wrong, and how often.

use std::time::Duration;

use crate::dice::Dice;

/// The faults of one run. Each is there in some runs and not in others: what always happens together hides what would
/// show alone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weather {
    /// The usual time of a message on its way, at most.
    pub(crate) way: Duration,
    /// How often a message takes longer, and how long at most.
    pub(crate) slow: (f64, Duration),
    /// How often a call fails before anything happened.
    pub(crate) fail: f64,
    /// How often something happens and the caller never hears of it.
    pub(crate) lose_answer: f64,
    /// How often only the first part of an append arrives.
    pub(crate) tear: f64,
    /// How often an append is so late that another may lead by then.
    pub(crate) late: f64,
    /// How often a message comes twice.
    pub(crate) duplicate: f64,
    /// How often a signal, an acknowledgement or a delivery gets lost.
    pub(crate) lose: f64,
    /// How often a process dies in a call.
    pub(crate) crash: f64,
    /// The usual time between two kills of one process at any moment.
    pub(crate) kill: Option<Duration>,
    /// The usual time between two cuts of one process from the broker.
    pub(crate) cut: Option<Duration>,
    /// The usual time between two losses of a part of the broker.
    pub(crate) losses: Option<Duration>,
    /// The usual time between two losses of the leases, so that another may lead at any moment.
    pub(crate) usurpations: Option<Duration>,
    /// How long all this lasts.
    pub(crate) storm: Duration,
}

impl Weather {
    /// Nothing goes wrong; messages take their time.
    pub(crate) fn calm(storm: Duration) -> Self {
        Self {
            way: Duration::from_millis(5),
            slow: (0.0, Duration::ZERO),
            fail: 0.0,
            lose_answer: 0.0,
            tear: 0.0,
            late: 0.0,
            duplicate: 0.0,
            lose: 0.0,
            crash: 0.0,
            kill: None,
            cut: None,
            losses: None,
            usurpations: None,
            storm,
        }
    }

    pub(crate) fn of(dice: &mut Dice) -> Self {
        let storm = dice.ms(5_000..=25_000);
        if dice.happens(0.15) {
            return Self::calm(storm);
        }
        let rate = |dice: &mut Dice, most: f64| match dice.happens(0.55) {
            true => most / dice.pick(&[1.0, 3.0, 10.0]),
            false => 0.0,
        };
        let every = |dice: &mut Dice, range| dice.happens(0.5).then(|| dice.ms(range));
        Self {
            way: *dice.pick(&[1, 5, 20, 100].map(Duration::from_millis)),
            slow: (rate(dice, 0.05), dice.ms(500..=12_000)),
            fail: rate(dice, 0.1),
            lose_answer: rate(dice, 0.1),
            tear: rate(dice, 0.2),
            late: rate(dice, 0.2),
            duplicate: rate(dice, 0.2),
            lose: rate(dice, 0.2),
            crash: rate(dice, 0.01),
            kill: every(dice, 4_000..=20_000),
            cut: every(dice, 5_000..=30_000),
            losses: every(dice, 4_000..=20_000),
            usurpations: every(dice, 500..=5_000),
            storm,
        }
    }
}
