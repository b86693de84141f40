//! What the types look like as JSON, for documents that describe interfaces: feature `schema`.
//!
//! Most types derive it. Here are those that serde does not read off their fields: names, ids, times, sets.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, ObjectBuilder, Ref, RefOr, SchemaFormat,
        schema::{AllOfBuilder, AnyOfBuilder, ArrayBuilder, ArrayItems, Schema, Type},
    },
};

use crate::{
    credits::Month,
    document::{Document, Output},
    failure::{FailureKind, Fingerprint},
    ids::{
        BatchId, Bucket, ChunkId, CommandId, EventId, HandlerName, JobName, KeyId, KeyName,
        Namespace, ResourceClass, WorkerId,
    },
    keys::{Scope, Scopes, SecretHash},
    plan::Plan,
    query::{At, BatchRef},
    share::Share,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::SegmentRun,
};

/// What each name is: see [`crate::ids`].
const NAME: &str = "^[A-Za-z0-9_-]{1,64}$";

fn text(description: &str, example: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .examples([example])
}

fn known(text: ObjectBuilder, format: &str) -> ObjectBuilder {
    text.format(Some(SchemaFormat::Custom(format.to_owned())))
}

fn whole() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0))
}

/// Types that are one text.
macro_rules! texts {
    ($($type:ty: $schema:expr;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }
        impl ToSchema for $type {}
    )*};
}

fn name(description: &str, example: &str) -> ObjectBuilder {
    text(description, example).pattern(Some(NAME))
}

fn id(description: &str) -> ObjectBuilder {
    let example = "01890a5d-ac96-774b-bcce-b302099a8057";
    known(text(description, example), "uuid")
}

texts! {
    Namespace: name("A tenant. Nothing of one namespace is visible from another.", "default");
    Bucket: name("A named source of documents within a namespace.", "scans");
    HandlerName: name("The name under which workers serve a job.", "fetch");
    JobName: name("A job within a tier.", "fetch");
    ResourceClass: name("What a worker must have: cpu, gpu, or any label of the operator's.", "cpu");
    WorkerId: name("One running worker.", "worker-7f3a");
    KeyName: name("What a key is called.", "ci");
    BatchId: id("A batch: a UUIDv7, or any UUID that the user chose.");
    ChunkId: id("A chunk of work handed to a worker.");
    CommandId: id("A command. The same id twice is done once.");
    EventId: id("An event.");
    KeyId: id("A key to the HTTP interface. It is no secret.");
    SecretHash: text("The SHA-256 of a key as it is sent, in base 16.", HASH).pattern(Some("^sha256:[0-9a-f]{64}$"));
    Scopes: scopes();
    Timestamp: known(text("A time, to the millisecond, in UTC.", "2026-01-31T12:00:00.250Z"), "date-time");
    Month: text("A month of the calendar, in UTC.", "2026-11").pattern(Some("^[0-9]{4}-(0[1-9]|1[0-2])$"));
    Share: text("A part of a whole, from 0.01% to 100%.", "12.5%").pattern(Some("^[0-9]{1,3}(\\.[0-9]{1,2})?%$"));
    FailureKind: name("What went wrong, as a short word: one of the usual kinds, or a handler's own.", "timeout");
    Fingerprint: text("What failures have in common, in base 16.", "5f0c91d2").pattern(Some("^[0-9a-f]{8}$"));
Plan: ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("A retry that was previewed, as one word."))
        .pattern(Some("^plan-[0-9a-v]+$"));
    BatchRef: text("A batch's id (a UUID), or `last` for the namespace's last one.", "last");
    At: text("A moment: a log sequence, or a time as RFC 3339.", "120");
    Millis: whole().description(Some("A span of time in milliseconds.")).examples([30_000]);
    UnitSet: ranges();
    Ranges: ranges();
    SegmentRun: whole_tuple("A run of segments: its first and last unit, the document of the first, and which of that \
        document's segments the first is.", 4);
    Span: Schema::AnyOf(
        AnyOfBuilder::new()
            .description(Some("A span of time: seconds, or a text with units."))
            .item(ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)))
            .item(text("With units.", "10m"))
            .build(),
    );
}

/// A set that is ranges in every format; a [`UnitSet`] is so in JSON alone. Only its schema is of use.
#[derive(Debug)]
pub struct Ranges(());

/// Of the empty text.
const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn scopes() -> ArrayBuilder {
    let one = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(Scope::ALL.map(Scope::as_str)));
    ArrayBuilder::new()
        .description(Some(
            "What a key is good for. None of them includes another.",
        ))
        .items(one)
        .min_items(Some(1))
        .examples([serde_json::json!(["read", "operate"])])
}

/// A span of time as people may write it. Only its schema is of use.
#[derive(Debug)]
pub struct Span(());

fn whole_tuple(description: &str, members: usize) -> ArrayBuilder {
    ArrayBuilder::new()
        .description(Some(description))
        .items(whole())
        .min_items(Some(members))
        .max_items(Some(members))
}

fn ranges() -> ArrayBuilder {
    ArrayBuilder::new()
        .description(Some(
            "A set of ordinals, as inclusive ranges in ascending order.",
        ))
        .items(whole_tuple("The first and the last.", 2))
        .examples([serde_json::json!([[0, 99], [250, 250]])])
}

/// Documents in a [`crate::packed::Packed`]. Only its schema is of use.
#[derive(Debug)]
pub struct PackedDocuments(());

impl PartialSchema for PackedDocuments {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new()
            .items(Ref::from_schema_name(Document::name()))
            .into()
    }
}

impl ToSchema for PackedDocuments {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Document::name().into(), Document::schema()));
        Document::schemas(schemas);
    }
}

/// [`crate::work::Outputs`] in a [`crate::packed::Packed`]. Only its schema is of use.
#[derive(Debug)]
pub struct PackedOutputs(());

impl PartialSchema for PackedOutputs {
    fn schema() -> RefOr<Schema> {
        let output = AllOfBuilder::new().item(Ref::from_schema_name(Output::name()));
        let entry = ArrayBuilder::new()
            .description(Some("A unit, and its output."))
            .items(ArrayItems::False)
            .prefix_items([Schema::from(whole()), Schema::from(output)]);
        ArrayBuilder::new().items(entry).into()
    }
}

impl ToSchema for PackedOutputs {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Output::name().into(), Output::schema()));
        Output::schemas(schemas);
    }
}

#[cfg(test)]
mod tests;
