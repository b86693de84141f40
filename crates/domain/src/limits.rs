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
/// Things wrong with one command that its refusal names.
pub const REFUSAL_ERRORS: usize = 50;
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
