use serde_json::json;

use super::*;
use crate::pipeline::Pipeline;

fn job(extra: &serde_json::Value) -> JobSpec {
    let mut job = json!({ "handler": "ocr" });
    for (name, value) in extra.as_object().unwrap() {
        job[name] = value.clone();
    }
    let pipeline = Pipeline::from_value(&json!({ "tiers": [{ "jobs": [job] }] })).unwrap();
    pipeline.tiers[0].jobs[0].clone()
}

fn change(settings: &[&str]) -> SubmissionChange {
    let mut change = SubmissionChange::default();
    for setting in settings {
        change.set(setting).unwrap();
    }
    change
}

#[test]
fn what_is_not_named_stays_as_it_is() {
    let before =
        job(&json!({ "rate_limit": { "per_second": 9, "burst": 4 }, "entrypoint": "main" }));
    assert_eq!(SubmissionChange::default().applied_to(&before), before);
    let after = change(&["rate_limit=2.5", "memory_bytes=4GiB"]).applied_to(&before);
    let limit = after.rate_limit.unwrap();
    assert_eq!((limit.per_second, limit.burst), (2.5, 4));
    assert_eq!(after.memory_bytes, Some(4 << 30));
    assert_eq!(after.entrypoint.as_deref(), Some("main"));
    assert_eq!((after.timeout, after.class), (before.timeout, before.class));
}

#[test]
fn a_gpu_moves_a_job_to_its_workers_unless_a_class_is_named() {
    let class = |spec: &JobSpec, settings: &[&str]| {
        let after = change(settings).applied_to(spec);
        (after.requires_gpu, after.class.to_string())
    };
    let cpu = job(&json!({}));
    assert_eq!(
        class(&cpu, &["requires_gpu=true"]),
        (true, "gpu".to_owned())
    );
    let both = ["requires_gpu=true", "class=big"];
    assert_eq!(class(&cpu, &both), (true, "big".to_owned()));
    let own = job(&json!({ "class": "big" }));
    assert_eq!(
        class(&own, &["requires_gpu=true"]),
        (true, "big".to_owned())
    );
    let gpu = job(&json!({ "requires_gpu": true }));
    assert_eq!(
        class(&gpu, &["requires_gpu=false"]),
        (false, "cpu".to_owned())
    );
}

#[test]
fn a_change_comes_back_from_all_its_forms() {
    let all = [
        "requires_gpu=true",
        "class=big",
        "memory_bytes=1536MiB",
        "num_cpus=2",
        "timeout=90s",
        "max_attempts=5",
        "rate_limit=2.5",
        "max_concurrency=3",
        "priority=100",
        "entrypoint=python -m main=1",
        "deployment_mode=gke",
        "plugin_archives=a.zip,b.zip",
    ];
    let change = change(&all);
    assert_eq!(change.settings(), all);
    assert_eq!(change.errors(), []);
    let text = serde_json::to_string(&change).unwrap();
    assert_eq!(
        serde_json::from_str::<SubmissionChange>(&text).unwrap(),
        change
    );
    let bytes = rmp_serde::to_vec_named(&change).unwrap();
    assert_eq!(
        rmp_serde::from_slice::<SubmissionChange>(&bytes).unwrap(),
        change
    );
    let short: SubmissionChange = serde_json::from_value(json!({ "timeout": "10m" })).unwrap();
    assert_eq!(short.timeout, Some(Millis::seconds(600)));
    for ms in [1, 999, 1_234, 604_800_000] {
        let change = SubmissionChange {
            timeout: Some(Millis(ms)),
            ..SubmissionChange::default()
        };
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(
            serde_json::from_str::<SubmissionChange>(&text).unwrap(),
            change
        );
    }
}

#[test]
fn memory_takes_the_units_that_people_use() {
    for (text, bytes) in [
        ("1048576", 1 << 20),
        ("4GiB", 4 << 30),
        ("4Gi", 4 << 30),
        ("4 gib", 4 << 30),
        ("4GB", 4_000_000_000),
        ("4G", 4_000_000_000),
        ("1.5MiB", 3 << 19),
    ] {
        assert_eq!(
            change(&[&format!("memory_bytes={text}")]).memory_bytes,
            Some(bytes)
        );
    }
}

#[test]
fn what_is_wrong_with_a_setting_is_said() {
    let mut change = SubmissionChange::default();
    let mut wrong = |text: &str| change.set(text).map_err(|e| e.to_string()).unwrap_err();
    assert!(wrong("requires_gpu").contains("is not NAME=VALUE"));
    assert!(wrong("colour=red").contains("use one of requires_gpu, class"));
    assert!(wrong("memory_bytes=4 apples").contains("it takes bytes"));
    assert!(wrong("memory_bytes=99999999999TiB").contains("it takes bytes"));
    assert!(wrong("rate_limit=NaN").contains("units a second"));
    change.set("priority=1").unwrap();
    let twice = change.set("priority=2").unwrap_err();
    assert_eq!(twice, InvalidSetting::Twice("priority"));
}

#[test]
fn all_that_is_out_of_bounds_is_named() {
    let change = SubmissionChange {
        priority: Some(101),
        memory_bytes: Some(1),
        num_cpus: Some(0),
        timeout: Some(Millis(0)),
        max_attempts: Some(21),
        rate_limit: Some(f64::NAN),
        max_concurrency: Some(0),
        entrypoint: Some("a\nb".to_owned()),
        deployment_mode: Some(String::new()),
        plugin_archives: Some(vec![String::new(); 17]),
        ..SubmissionChange::default()
    };
    let errors = change.errors();
    let paths: Vec<&str> = errors.iter().map(|e| e.path.as_str()).collect();
    for field in [
        "set.priority",
        "set.memory_bytes",
        "set.num_cpus",
        "set.timeout",
        "set.max_attempts",
        "set.rate_limit",
        "set.max_concurrency",
        "set.entrypoint",
        "set.deployment_mode",
        "set.plugin_archives[0]",
        "set.plugin_archives",
    ] {
        assert!(paths.contains(&field), "{field} in {paths:?}");
    }
    assert_eq!(
        errors[0].to_string(),
        "set.priority: is 101: it takes a whole number from 0 to 100"
    );
}
