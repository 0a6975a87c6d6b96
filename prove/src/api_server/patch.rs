//! The patches that are no apply.

use json_patch::{AddOperation, PatchOperation};
use serde_json::Value;

use super::status::Status;

/// A change to an object.
#[derive(Debug, Clone)]
pub(super) enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// RFC 6902.
    Json(json_patch::Patch),
}

impl Patch {
    /// The object with the change.
    pub(super) fn on(&self, object: &Value) -> Result<Value, Status> {
        let mut object = object.clone();
        match self {
            Self::Merge(patch) => json_patch::merge(&mut object, patch),
            Self::Json(patch) => {
                for operation in &patch.0 {
                    let operation = lenient(operation, &object);
                    json_patch::patch(&mut object, &[operation]).map_err(|_error| Status::unfit_patch())?;
                }
            }
        }
        Ok(object)
    }
}

/// The API server's library lets a field be replaced that is not there.
fn lenient(operation: &PatchOperation, object: &Value) -> PatchOperation {
    if let PatchOperation::Replace(replace) = operation
        && let Some((parent, last)) = replace.path.as_str().rsplit_once('/')
        && let Some(Value::Object(fields)) = object.pointer(parent)
        && !fields.contains_key(&last.replace("~1", "/").replace("~0", "~"))
    {
        let (path, value) = (replace.path.clone(), replace.value.clone());
        return PatchOperation::Add(AddOperation { path, value });
    }
    operation.clone()
}
