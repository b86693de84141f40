//! What holds for all routes.
#![allow(clippy::unwrap_used, clippy::panic)]
