//! Fuzz targets for the bodies of HTTP requests.

use axum::Json;

pub(crate) use super::service::fuzz::{chat, converse, execute};
use crate::core::model::command::Command;

/// Reads the body of `POST /v1/commands`: a command reads back.
pub(crate) fn command(data: &[u8]) {
    let Ok(Json(command)) = Json::<Command>::from_bytes(data) else { return };
    let written = serde_json::to_vec(&command);
    let read = written.and_then(|bytes| serde_json::from_slice::<Command>(&bytes));
    assert!(read.is_ok_and(|read| read == command), "{command:?} does not read back");
}
