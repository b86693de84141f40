//! Reading what a pipeline says of outages.

use serde_json::Value;

use super::{SpecError, fields::Fields};
use crate::{
    limits::{BREAKER_ATTEMPTS, BREAKER_PAUSE_MS, BREAKER_WINDOW_MS, DOCUMENTS_PER_BATCH},
    pipeline::{Breaker, MaxFailed},
};

/// A table, of which what is left out is as usual; `true` is the usual one, `false` none.
#[allow(clippy::option_option)] // whether it could be read, and whether there is one
pub(super) fn breaker(
    value: &Value,
    path: String,
    errors: &mut Vec<SpecError>,
) -> Option<Option<Breaker>> {
    match value {
        Value::Bool(on) => return Some(on.then_some(Breaker::USUAL)),
        Value::Object(_) => {}
        _ => {
            let message =
                "is to be a table of window, min_attempts, failure_rate and pause, or false";
            errors.push(SpecError {
                path,
                message: message.to_owned(),
            });
            return None;
        }
    }
    let before = errors.len();
    let mut fields = Fields::new(value, path, errors);
    let window = fields.span("window", 1_000..=BREAKER_WINDOW_MS);
    let least = fields.integer("min_attempts", 1..=BREAKER_ATTEMPTS);
    let rate = fields.read("failure_rate", "a share such as \"90%\"", |value| {
        value.as_str()?.parse().ok()
    });
    let pause = fields.span("pause", 100..=BREAKER_PAUSE_MS);
    fields.finish();
    let usual = Breaker::USUAL;
    (errors.len() == before).then(|| {
        Some(Breaker {
            window: window.unwrap_or(usual.window),
            min_attempts: least
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(usual.min_attempts),
            failure_rate: rate.unwrap_or(usual.failure_rate),
            pause: pause.unwrap_or(usual.pause),
        })
    })
}

/// A whole number, or a share as text.
pub(super) fn max_failed(fields: &mut Fields<'_>) -> Option<MaxFailed> {
    let want = format!(
        "a whole number of documents from 0 to {DOCUMENTS_PER_BATCH}, or a share such as \"5%\""
    );
    fields.read("max_failed", want, |value| match value {
        Value::String(text) => text.parse().ok().map(MaxFailed::Share),
        value => {
            let count = u32::try_from(value.as_u64()?).ok()?;
            (count <= DOCUMENTS_PER_BATCH).then_some(MaxFailed::Count(count))
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        pipeline::{Breaker, MaxFailed, Pipeline},
        time::Millis,
    };

    fn read(max_failed: &Value, breaker: &Value) -> Result<Pipeline, String> {
        let jobs = json!([{ "handler": "x", "breaker": breaker }]);
        let value = json!({ "max_failed": max_failed, "tiers": [{ "jobs": jobs }] });
        Pipeline::from_value(&value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_breaker_is_there_unless_it_is_switched_off() {
        let breaker = |value| read(&Value::Null, &value).unwrap().tiers[0].jobs[0].breaker;
        assert_eq!(breaker(Value::Null), Some(Breaker::USUAL));
        assert_eq!(breaker(json!(true)), Some(Breaker::USUAL));
        assert_eq!(breaker(json!(false)), None);
        let own = breaker(json!({ "min_attempts": 5, "failure_rate": "50%", "pause": "1s" }));
        let own = own.expect("there is one");
        assert_eq!((own.min_attempts, own.pause), (5, Millis::seconds(1)));
        assert_eq!(own.window, Breaker::USUAL.window);
        for wrong in [json!("no"), json!({ "window": "0s" }), json!({ "rate": 1 })] {
            let told = read(&Value::Null, &wrong).unwrap_err();
            assert!(told.contains("tiers[0].jobs[0].breaker"), "{told}");
        }
    }

    #[test]
    fn what_may_fail_is_a_number_or_a_share() {
        let of = |value, documents| {
            let read = read(&value, &Value::Null).unwrap().max_failed;
            read.map(|most| most.of(documents))
        };
        assert_eq!(of(Value::Null, 10), None);
        assert_eq!(of(json!(7), 10), Some(7));
        assert_eq!(of(json!("5%"), 100), Some(5));
        assert_eq!(of(json!("5%"), 10), Some(0));
        for wrong in [json!(-1), json!("5"), json!(0.5), json!("0%")] {
            let told = read(&wrong, &Value::Null).unwrap_err();
            assert!(told.contains("max_failed: is "), "{told}");
        }
        let kept = read(&json!("5%"), &json!(false)).unwrap();
        let stored = serde_json::to_value(&kept).unwrap();
        assert_eq!(stored["max_failed"], "5%");
        assert_eq!(serde_json::from_value::<Pipeline>(stored).unwrap(), kept);
        assert_eq!(MaxFailed::Count(3).to_string(), "3");
    }
}
