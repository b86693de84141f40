//! The handlers that ship with Redrive.
