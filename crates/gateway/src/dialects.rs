//! Interfaces of services that clients were written for: paths, fields, statuses, headers, errors, defaults and bounds are
//! theirs; what happens is the same as everywhere.

pub(crate) mod anchor;
pub(crate) mod feather;
mod fields;
mod items;
pub(crate) mod mixpeek;
pub(crate) mod spidra;

use utoipa_axum::router::OpenApiRouter;

use crate::{Shared, surface::Surface};

/// Their routes.
pub(crate) fn routers() -> [(Surface, OpenApiRouter<Shared>); 4] {
    [
        (Surface::Mixpeek, mixpeek::router()),
        (Surface::Feather, feather::router()),
        (Surface::Anchor, anchor::router()),
        (Surface::Spidra, spidra::router()),
    ]
}
