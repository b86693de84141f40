//! Every bound that a user can meet, in one place, so that an error can name it.

/// Longest document id, in bytes of UTF-8.
pub const DOCUMENT_ID_BYTES: usize = 512;
/// Longest document URI, in bytes of UTF-8.
pub const DOCUMENT_URI_BYTES: usize = 4096;
/// Largest inline JSON of one document, in bytes of its compact encoding.
pub const DOCUMENT_DATA_BYTES: usize = 64 * 1024;
/// Most documents in one `add_documents` command.
pub const DOCUMENTS_PER_PAGE: usize = 10_000;
/// Largest `add_documents` page, in bytes once packed: it has to fit in one message of a broker with the default
/// `max_payload` of 1 MiB.
pub const PAGE_BYTES: usize = 768 * 1024;
/// Most documents in a batch.
pub const DOCUMENTS_PER_BATCH: u32 = 1 << 24;
/// Most tiers in a pipeline.
pub const TIERS: usize = 32;
/// Most jobs in a tier.
pub const JOBS_PER_TIER: usize = 16;
/// Largest pipeline, in bytes of its compact JSON.
pub const PIPELINE_BYTES: usize = 64 * 1024;
/// Longest name (namespace, bucket, handler, job, class, worker), in bytes of ASCII.
pub const NAME_BYTES: usize = 64;
/// Longest failure message, in characters.
pub const FAILURE_MESSAGE_CHARS: usize = 1_000;
/// Longest failure detail, in bytes.
pub const FAILURE_DETAIL_BYTES: usize = 8 * 1024;
/// Longest failure code, in characters.
pub const FAILURE_CODE_CHARS: usize = 64;
/// Largest output kept inline, in bytes, unless the job says otherwise.
pub const OUTPUT_BYTES: u64 = 64 * 1024;
/// The most that a job may set as its own output limit, in bytes: an output has to fit in one message.
pub const OUTPUT_BYTES_MAX: u64 = 512 * 1024;
/// Most attempts a job may ask for.
pub const ATTEMPTS: u32 = 20;
/// Attempts at most after failures of class `unknown`, whatever the job's budget: what is not known to pass is not
/// repeated for long.
pub const UNKNOWN_ATTEMPTS: u32 = 2;
/// Attempts of one unit, of all kinds, after which nothing more is tried by itself.
pub const ATTEMPTS_EVER: u32 = 1_000;
/// Executions of a unit in one round that take their worker with them, or run out of memory, after which it is not tried
/// again by itself.
pub const STRIKES: u32 = 3;
/// Units in a chunk at most where each has taken a worker with it, or run out of memory, once.
pub const SUSPECTS_PER_CHUNK: u64 = 64;
/// The longest window of a breaker, in milliseconds: an hour.
pub const BREAKER_WINDOW_MS: u64 = 3_600_000;
/// The longest that a breaker waits before it probes again, in milliseconds: 5 minutes.
pub const BREAKER_PAUSE_MS: u64 = 300_000;
/// Most attempts that a breaker may wait for.
pub const BREAKER_ATTEMPTS: u64 = 1_000_000;
/// The longest wait that the other side may ask for (`retry_after`), in milliseconds: a day.
pub const RETRY_AFTER_MS: u64 = 86_400_000;
/// Range of `max_retry_count`.
pub const MAX_RETRY_COUNT: std::ops::RangeInclusive<u8> = 1..=10;
/// Kinds that one retry may name.
pub const RETRY_KINDS: usize = 16;
/// Range of `max_retries`.
pub const MAX_RETRIES: std::ops::RangeInclusive<u8> = 1..=3;
/// Ids of commands that a batch remembers, so that the same command twice is done once.
pub const REMEMBERED_COMMANDS: usize = 256;
/// Bytes of unit sets in one event; a decision on more is spread over several.
pub const SET_BYTES_PER_EVENT: usize = 512 * 1024;
/// Documents that a stale plan's difference names; more are counted.
pub const DIFFERENCE_SHOWN: u64 = 100;
/// Most credits that a namespace may have a month.
pub const CREDITS: u64 = 1_000_000_000_000_000;
/// Most credits that one document may take.
pub const CREDITS_PER_DOCUMENT: u64 = 1_000_000;
/// Months that a ledger keeps, beside those of which something is still held.
pub const CREDIT_MONTHS: usize = 120;
/// Things wrong with one command that its refusal names.
pub const REFUSAL_ERRORS: usize = 50;
/// Findings that one look at what is stuck, or executed twice, tells and deals with.
pub const HEAL_FINDINGS: usize = 256;
/// Range of `idle_seconds`: up to a day.
pub const HEAL_IDLE_SECONDS: std::ops::RangeInclusive<u32> = 1..=86_400;
/// Longest text of a refusal about one thing, in characters.
pub const REFUSAL_CHARS: usize = 1_000;
/// Fingerprints that one retry may name.
pub const RETRY_FINGERPRINTS: usize = 16;
/// Groups of failures that are alike that a job keeps; what is like none of them goes into one group for each kind.
pub const FAILURE_GROUPS: usize = 128;
/// Characters of a message by which failures are told apart, once what names a document is taken out.
pub const FINGERPRINT_CHARS: usize = 200;
/// Kinds for which a job counts the attempts that failed; more are counted together.
pub const COUNTED_KINDS: usize = 32;
/// Groups of failures that a diagnosis lists, the largest of all jobs.
pub const DIAGNOSED_GROUPS: usize = 50;
/// Groups of failures of one kind in one job that a diagnosis recommends something for, the largest.
pub const RECOMMENDED_GROUPS: usize = 5;
/// Recommendations of a diagnosis.
pub const RECOMMENDATIONS: usize = 20;
/// Events that a batch keeps of its infrastructure, the last ones.
pub const INFRASTRUCTURE_EVENTS: usize = 100;
/// The ordinal of the first segment of a batch: above those that documents can have.
pub const SEGMENTS_FROM: u32 = DOCUMENTS_PER_BATCH;
/// Most segments of one document, shared by the jobs of the tier before the one that joins them: where all their
/// outputs stand has to fit in one message.
pub const SEGMENTS_PER_DOCUMENT: u32 = 1 << 16;
/// Most segments in a batch.
pub const SEGMENTS_PER_BATCH: u32 = 1 << 24;
/// The most that the outputs of one document's segments may come to where they are joined, in bytes as JSON.
pub const JOIN_BYTES: usize = 32 * 1024 * 1024;
/// CPUs that one execution may ask for.
pub const NUM_CPUS: std::ops::RangeInclusive<u32> = 1..=1_024;
/// Memory that one execution may be given, in bytes: a MiB to a PiB.
pub const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 50;
/// The highest priority of a job.
pub const PRIORITY_MOST: u8 = 100;
/// Time that one attempt may be given, in milliseconds: up to a week.
pub const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1..=7 * 24 * 3_600_000;
/// Units a second that a rate limit may name.
pub const RATE_PER_SECOND: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;
/// Units at once, over all workers, that a job may be limited to.
pub const MAX_CONCURRENCY: std::ops::RangeInclusive<u32> = 1..=1_000_000;
/// Longest entrypoint, in bytes of UTF-8.
pub const ENTRYPOINT_BYTES: usize = 1_024;
/// Longest deployment mode, in bytes of UTF-8.
pub const DEPLOYMENT_MODE_BYTES: usize = 64;
/// Most plugin archives of a job.
pub const PLUGIN_ARCHIVES: usize = 16;
/// Longest name of a plugin archive, in bytes of UTF-8.
pub const PLUGIN_ARCHIVE_BYTES: usize = 512;
/// Keys of a namespace that are neither revoked nor expired.
pub const KEYS_PER_NAMESPACE: usize = 1_000;
/// Keys of a namespace that are kept, with those that are revoked or expired; what ended first is dropped first.
pub const KEYS_KEPT: usize = 2 * KEYS_PER_NAMESPACE;
/// Jobs that one retry may name.
pub const RETRY_JOBS: usize = 16;
