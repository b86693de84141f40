//! What is measured, and how it is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::args::Shape;
use crate::output;

/// One thing that is measured. Its name in JSON stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Figure {
    /// Single messages of 128 bytes, published and acknowledged.
    RawPublishPerS,
    /// The same, read.
    RawReadPerS,
    /// From the first command until all is over, retries and all.
    DocumentsPerS,
    /// The same, as a share of the raw rate of publishing in the same run.
    DocumentsToRawPublish,
    /// Until all batches were submitted.
    HandoverS,
    /// Until they were over.
    OverS,
    /// Until what failed had been retried.
    RetriedS,
    /// Events of the log in that time.
    EventsPerS,
    /// The log read and folded afresh.
    ReplayEventsPerS,
    /// Units that succeeded, failed or were chosen for a retry, in the log that is folded.
    ReplayTransitionsPerS,
    /// From the last batch's end until the projector answers with it.
    ProjectorBehindMs,
    /// A batch of one document, from its submission until it is seen to be over.
    LatencyP50Ms,
    LatencyP99Ms,
    /// Reads over HTTP that were answered while documents were worked on, `--reads` of them a second.
    Reads,
    /// Their time, from when each was due until it was answered whole.
    ReadP50Ms,
    ReadP99Ms,
    LogBytesPerDocument,
    LogBytesPerEvent,
    /// What the projector's store takes in the end.
    StoreBytes,
    PeakBytesCoordinator,
    PeakBytesWorker,
    PeakBytesProjector,
    PeakBytesBroker,
    PeakBytesClient,
    /// Processor time from the first command until all is over.
    CpuSCoordinator,
    CpuSWorker,
    CpuSProjector,
    CpuSBroker,
    CpuSClient,
}

impl Figure {
    /// In the order in which they are shown.
    pub(super) const ALL: [Self; 29] = [
        Self::RawPublishPerS,
        Self::RawReadPerS,
        Self::DocumentsPerS,
        Self::DocumentsToRawPublish,
        Self::HandoverS,
        Self::OverS,
        Self::RetriedS,
        Self::EventsPerS,
        Self::ReplayEventsPerS,
        Self::ReplayTransitionsPerS,
        Self::ProjectorBehindMs,
        Self::LatencyP50Ms,
        Self::LatencyP99Ms,
        Self::Reads,
        Self::ReadP50Ms,
        Self::ReadP99Ms,
        Self::LogBytesPerDocument,
        Self::LogBytesPerEvent,
        Self::StoreBytes,
        Self::PeakBytesCoordinator,
        Self::PeakBytesWorker,
        Self::PeakBytesProjector,
        Self::PeakBytesBroker,
        Self::PeakBytesClient,
        Self::CpuSCoordinator,
        Self::CpuSWorker,
        Self::CpuSProjector,
        Self::CpuSBroker,
        Self::CpuSClient,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::RawPublishPerS => "broker alone: publish + ack",
            Self::RawReadPerS => "broker alone: read",
            Self::DocumentsPerS => "documents, end to end",
            Self::DocumentsToRawPublish => "  to the broker's publish + ack",
            Self::HandoverS => "  handed over after",
            Self::OverS => "  over after",
            Self::RetriedS => "  retried after",
            Self::EventsPerS => "events",
            Self::ReplayEventsPerS => "replay: events",
            Self::ReplayTransitionsPerS => "replay: unit transitions",
            Self::ProjectorBehindMs => "projector behind by",
            Self::LatencyP50Ms => "one document: median",
            Self::LatencyP99Ms => "one document: 99th percentile",
            Self::Reads => "reads over HTTP meanwhile",
            Self::ReadP50Ms => "  one read: median",
            Self::ReadP99Ms => "  one read: 99th percentile",
            Self::LogBytesPerDocument => "log, a document",
            Self::LogBytesPerEvent => "log, an event",
            Self::StoreBytes => "projector's store",
            Self::PeakBytesCoordinator => "peak memory: coordinator",
            Self::PeakBytesWorker => "peak memory: worker",
            Self::PeakBytesProjector => "peak memory: projector",
            Self::PeakBytesBroker => "peak memory: broker",
            Self::PeakBytesClient => "peak memory: client",
            Self::CpuSCoordinator => "processor: coordinator",
            Self::CpuSWorker => "processor: worker",
            Self::CpuSProjector => "processor: projector",
            Self::CpuSBroker => "processor: broker",
            Self::CpuSClient => "processor: client",
        }
    }

    fn show(self, value: f64) -> String {
        let name = self.title();
        match self {
            Self::RawPublishPerS
            | Self::RawReadPerS
            | Self::DocumentsPerS
            | Self::EventsPerS
            | Self::ReplayEventsPerS
            | Self::ReplayTransitionsPerS => format!("{} /s", short(value)),
            Self::DocumentsToRawPublish => format!("{value:.2} ×"),
            Self::ProjectorBehindMs
            | Self::LatencyP50Ms
            | Self::LatencyP99Ms
            | Self::ReadP50Ms
            | Self::ReadP99Ms => format!("{value:.1} ms"),
            Self::Reads => format!("{value:.0}"),
            Self::LogBytesPerDocument | Self::LogBytesPerEvent => format!("{value:.1} B"),
            _ if name.starts_with("peak") || self == Self::StoreBytes => {
                format!("{:.1} MiB", value / f64::from(1 << 20))
            }
            _ => format!("{value:.2} s"),
        }
    }
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

/// What one run measured. What could not be known is not in it.
pub(super) type Measured = BTreeMap<Figure, f64>;

/// A figure over all runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    /// The middle one; between the two middle ones if their number is even.
    pub(super) median: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        Some(Self {
            median: quantile(&values, 0.5)?,
            lowest: *values.first()?,
            highest: *values.last()?,
        })
    }
}

/// A quantile of values in ascending order, between neighbours where it falls there.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
pub(super) fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let place = at.clamp(0.0, 1.0) * (sorted.len().checked_sub(1)? as f64);
    let below = sorted.get(place.floor() as usize)?;
    let above = sorted.get(place.ceil() as usize)?;
    Some(below + (above - below) * place.fract())
}

/// How many there were of what; the same in each run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Documents that went all the way.
    pub(super) documents: u64,
    /// Executions that succeeded.
    pub(super) units: u64,
    /// Documents that failed at first and were retried.
    pub(super) failed: u64,
    /// Batches of one document that were timed.
    pub(super) latency_samples: u64,
}

/// All that is told. Figures that could not be measured are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The version of Redrive.
    pub(super) redrive: String,
    /// The version of the broker.
    pub(super) broker: String,
    /// Whether it was built to be fast.
    pub(super) release: bool,
    pub(super) cpus: usize,
    pub(super) runs: u32,
    pub(super) options: Shape,
    pub(super) counts: Counts,
    pub(super) figures: BTreeMap<Figure, Option<Spread>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compared: Option<BTreeMap<Figure, Change>>,
}

/// How a median differs from an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) before: f64,
    /// In per cent of it.
    pub(super) change: f64,
}

/// What is taken of an earlier report: it may be that of a version with other figures.
#[derive(Debug, Deserialize)]
pub(super) struct Earlier {
    options: serde_json::Value,
    figures: BTreeMap<String, Option<EarlierSpread>>,
}

#[derive(Debug, Deserialize)]
struct EarlierSpread {
    median: f64,
}

/// The figures of several runs together.
pub(super) fn spread(runs: &[Measured]) -> BTreeMap<Figure, Option<Spread>> {
    let over = |figure| runs.iter().filter_map(move |run| run.get(&figure).copied());
    let all = Figure::ALL.into_iter();
    all.map(|figure| (figure, Spread::of(over(figure).collect())))
        .collect()
}

impl Report {
    /// Sets itself beside an earlier one; whether that had measured the same.
    pub(super) fn compare(&mut self, earlier: &Earlier) -> bool {
        let name = |figure: Figure| match serde_json::to_value(figure) {
            Ok(serde_json::Value::String(name)) => name,
            _ => String::new(),
        };
        let changes = self.figures.iter().filter_map(|(figure, now)| {
            let before = earlier.figures.get(&name(*figure))?.as_ref()?.median;
            let change = (now.as_ref()?.median / before - 1.0) * 100.0;
            change
                .is_finite()
                .then_some((*figure, Change { before, change }))
        });
        self.compared = Some(changes.collect());
        serde_json::to_value(&self.options).is_ok_and(|options| options == earlier.options)
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let several = self.runs > 1;
        let mut header = vec!["figure", if several { "median" } else { "value" }];
        if several {
            header.extend(["lowest", "highest"]);
        }
        if self.compared.is_some() {
            header.extend(["before", "change"]);
        }
        let rows = Figure::ALL.into_iter().filter_map(|figure| {
            let spread = self.figures.get(&figure)?.as_ref()?;
            let mut row = vec![figure.title().to_owned(), figure.show(spread.median)];
            if several {
                row.extend([figure.show(spread.lowest), figure.show(spread.highest)]);
            }
            if let Some(compared) = &self.compared {
                row.extend(match compared.get(&figure) {
                    Some(it) => [figure.show(it.before), format!("{:+.1} %", it.change)],
                    None => [String::new(), String::new()],
                });
            }
            Some(row)
        });
        output::table(&header, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_fall_between_neighbours() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.5), Some(3.0));
        assert_eq!(quantile(&[0.0, 100.0], 0.99), Some(99.0));
    }

    #[test]
    fn what_was_not_measured_has_no_spread() {
        let runs = [
            Measured::from([(Figure::OverS, 3.0), (Figure::EventsPerS, 1.0)]),
            Measured::from([(Figure::OverS, 1.0)]),
        ];
        let spread = spread(&runs);
        let over = spread[&Figure::OverS].unwrap();
        assert_eq!((over.lowest, over.median, over.highest), (1.0, 2.0, 3.0));
        assert_eq!(spread[&Figure::EventsPerS].unwrap().median, 1.0);
        assert_eq!(spread[&Figure::StoreBytes], None);
        assert_eq!(spread.len(), Figure::ALL.len());
    }
}
