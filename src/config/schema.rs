//! The JSON Schema of the configuration, made of the document's types. Native only: the module does not carry it.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::document::{Document, RoutePolicyDocument, StoreDocument, StoresDocument};
use super::problems::{ErrorStatus, PROBLEM_NAMES};
use super::value::{
    AuthorityPattern, FieldName, LinkTarget, List, MediaType, Method, NEVER_GUARDED, Number, PathPattern, Percentage,
    Period, Pointer, PropertyPath, RouteName, SchemaName, Secret, Size, StatusEntry, TableName, Text, Word, Words,
};

/// The JSON Schema (draft 2020-12) of the plugin configuration, with descriptions and defaults.
#[must_use]
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .with_transform(WithoutNull)
        .with_transform(Descriptions)
        .into_generator()
        .into_root_schema_for::<Document>();
    schema.insert("title".to_owned(), json!("Idemgate plugin configuration"));
    let mut schema = schema.to_value();
    set_defaults(&mut schema, &defaults());
    schema
}

/// Any JSON value.
pub(super) struct AnyJson;

/// Names of headers and patterns over their values.
pub(super) struct HeaderPatterns;

/// Names of problems and their statuses.
pub(super) struct Statuses;

/// One integrity key, or several.
pub(super) struct IntegrityKeys;

/// A secret of at least `shortest` characters, or where it is.
fn secret(shortest: u32) -> Schema {
    json_schema!({"oneOf": [
        {"type": "string", "minLength": shortest, "writeOnly": true},
        {
            "type": "object",
            "properties": {"env": {"type": "string", "minLength": 1}},
            "required": ["env"],
            "additionalProperties": false,
        },
    ]})
}

/// The contract's defaults. A key that has none is left out.
fn defaults() -> Value {
    json!({
        "prefix": "idemgate:",
        "mode": "enforce",
        "key": {"headers": ["idempotency-key"], "syntax": "field", "pointers": [], "required": false, "max_length": 255, "format": "any"},
        "methods": ["POST", "PATCH"],
        "caller": {"identity": [{"header": "authorization"}], "required": false},
        "resource": ["authority", "method", "path"],
        "fingerprint": {"query": true, "body": "raw", "ignore": [], "headers": ["content-type"]},
        "duplicates": {"in_flight": "reject", "wait_timeout": "10s", "max_waiting": 1024},
        "outcome": {
            "store": ["2xx", "3xx", "4xx"],
            "release": [401, 403, 408, 425, 429, "5xx"],
            "unknown": [502, 504],
            "on_unknown": "block",
        },
        "ttl": "24h",
        "lease": "30s",
        "execution": {
            "mode": "inline", "timeout": "60s", "max_calls": 512,
            "drop_headers": ["x-envoy-external-address", "x-envoy-internal"],
        },
        "limits": {"request_body": "1MiB", "response_body": "1MiB", "caller_share": "25%", "memory": "256MiB"},
        "replay": {"header": "idempotency-replayed", "drop_headers": ["set-cookie"], "keep_headers": []},
        "store": {
            "shared_data": {"max_bytes": "64MiB", "on_full": "evict_oldest", "keep_at_least": "1h"},
            "postgres": {"schema": "idemgate", "connections": 4, "timeout": "500ms", "max_record": "1MiB", "sweep": true, "unsigned_records": "refuse"},
            "redis": {"prefix": "idemgate:", "timeout": "500ms", "database": 0, "connections": 2, "max_record": "32KiB", "unsigned_records": "refuse"},
            "dynamodb": {"timeout": "1s", "max_record": "350KiB", "unsigned_records": "refuse"},
        },
        "problems": {"retry_hints": true, "error_member": true, "status": {}, "body": null, "content_type": "application/json"},
        "on_store_error": "reject",
        "status_header": true,
        "routes": [],
    })
}

/// Writes each default beside its key's type, objects key by key.
fn set_defaults(schema: &mut Value, defaults: &Value) {
    match (schema.get_mut("properties"), defaults) {
        (Some(properties), Value::Object(defaults)) => {
            for (key, default) in defaults {
                if let Some(property) = properties.get_mut(key) {
                    set_defaults(property, default);
                }
            }
        }
        _ => {
            if let Value::Object(schema) = schema {
                schema.insert("default".to_owned(), defaults.clone());
            }
        }
    }
}

/// Takes away the `null` that schemars allows for an `Option`: a key is given with a value or not at all.
#[derive(Clone, Debug)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                schema.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.retain(|word| !word.is_null());
        }
        if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
            choices.retain(|choice| *choice != json!({"type": "null"}));
            if let [Value::Object(only)] = choices.as_slice() {
                let only = only.clone();
                schema.remove("anyOf");
                for (keyword, value) in only {
                    schema.ensure_object().entry(keyword).or_insert(value);
                }
            }
        }
        transform_subschemas(self, schema);
    }
}

/// Joins the lines of a description, and adds the range that a value's type has left as a comment.
#[derive(Clone, Debug)]
struct Descriptions;

impl Transform for Descriptions {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::String(description)) = schema.get("description") {
            let mut joined = description.replace('\n', " ");
            if let Some(Value::String(range)) = schema.remove("$comment") {
                joined = format!("{joined} Allowed: {range}.");
            }
            schema.insert("description".to_owned(), Value::String(joined));
        }
        transform_subschemas(self, schema);
    }
}

/// Implements `JsonSchema` for types that read themselves, as the given function says.
macro_rules! schema_by_hand {
    ($([$($parameters:tt)*] $type:ty => $schema:expr;)*) => {$(
        impl<$($parameters)*> JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn schema_id() -> Cow<'static, str> {
                std::any::type_name::<Self>().into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let schema: fn(&mut SchemaGenerator) -> Schema = $schema;
                schema(generator)
            }
        }
    )*};
}

schema_by_hand! {
    [] AnyJson => |_| json_schema!(true);
    [] AuthorityPattern => |_| json_schema!({
        "type": "string", "pattern": "^[!-~]+$", "maxLength": 256, "not": {"pattern": "[/?#@\\\\]|\\*\\*\\*"},
    });
    [] FieldName => |_| json_schema!({"type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"});
    [] HeaderPatterns => |generator| {
        let name = generator.subschema_for::<FieldName>();
        json_schema!({
            "type": "object",
            "propertyNames": {"allOf": [name, {"not": {"pattern": "^[Hh][Oo][Ss][Tt]$"}}]},
            "additionalProperties": {
                "type": "string",
                "pattern":
                    "^[^ \\u0000-\\u001f\\u007f-\\u009f]([^\\u0000-\\u001f\\u007f-\\u009f]*[^ \\u0000-\\u001f\\u007f-\\u009f])?$",
                "maxLength": 256,
                "not": {"pattern": "\\*\\*\\*"},
            },
        })
    };
    [] IntegrityKeys => |_| {
        let key = secret(32);
        json_schema!({"oneOf": [key, {"type": "array", "items": key, "minItems": 1, "uniqueItems": true}]})
    };
    [] LinkTarget => |_| json_schema!({
        "type": "string",
        "maxLength": 2048,
        "pattern": "^([A-Za-z][A-Za-z0-9+.-]*:|/(?!/))[A-Za-z0-9._~:/?#\\[\\]@!$&'()*+,;=%-]*$",
    });
    [T: JsonSchema, const MIN: usize] List<T, MIN> => |generator| {
        let entry = generator.subschema_for::<T>();
        json_schema!({"type": "array", "items": entry, "minItems": MIN, "uniqueItems": true})
    };
    [] MediaType => |_| {
        let token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
        json_schema!({"type": "string", "pattern": format!("^{token}/{token} *(;[ -~]*)?$")})
    };
    [] Method => |_| {
        let in_any_case = |letter: char| format!("[{letter}{}]", letter.to_ascii_lowercase());
        let methods = NEVER_GUARDED.map(|method| method.chars().map(in_any_case).collect::<String>());
        json_schema!({
            "type": "string",
            "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
            "not": {"pattern": format!("^({})$", methods.join("|"))},
        })
    };
    [const MIN: u32, const MAX: u32] Number<MIN, MAX> => |_| {
        json_schema!({"type": "integer", "minimum": MIN, "maximum": MAX})
    };
    [] PathPattern => |_| json_schema!({
        "type": "string", "pattern": "^(/|\\*\\*)[!-~]*$", "maxLength": 256, "not": {"pattern": "[?#]|\\*\\*\\*"},
    });
    [] Percentage => |_| json_schema!({"type": "string", "pattern": "^0*([1-9][0-9]?|100)%$"});
    [const MIN: u64, const MAX: u64] Period<MIN, MAX> => |_| {
        json_schema!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "$comment": Self::allowed()})
    };
    [] Pointer => |_| json_schema!({"type": "string", "pattern": "^(/([^~/]|~[01])*)+$"});
    [] PropertyPath => |_| json_schema!({
        "type": "array",
        "items": {"type": "string", "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"},
        "minItems": 1,
        "not": {"const": ["metadata"]},
    });
    [] SchemaName => |_| json_schema!({"type": "string", "pattern": "^[a-z_][a-z0-9_]{0,55}$"});
    [] RouteName => |_| json_schema!({"type": "string", "pattern": "^[a-z0-9_-]{1,32}$"});
    [] RoutePolicyDocument => |_| json_schema!({
        "$ref": "#",
        "properties": {
            "store": false, "routes": false, "role": false, "guard": false, "prefix": false,
            "limits": {"properties": {"memory": false}},
        },
    });
    [] Secret => |_| secret(1);
    [const MIN: u64, const MAX: u64] Size<MIN, MAX> => |_| json_schema!({
        "oneOf": [
            {"type": "integer", "minimum": MIN, "maximum": MAX},
            {"type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)$"},
        ],
        "$comment": Self::allowed(),
    });
    [] StatusEntry => |_| json_schema!({
        "oneOf": [
            {"type": "integer", "minimum": 100, "maximum": 599},
            {"type": "string", "pattern": "^[1-5][Xx][Xx]$"},
        ],
    });
    [] Statuses => |generator| {
        let status = generator.subschema_for::<ErrorStatus>();
        json_schema!({"type": "object", "propertyNames": {"enum": PROBLEM_NAMES}, "additionalProperties": status})
    };
    [] StoreDocument => StoresDocument::json_schema;
    [] TableName => |_| json_schema!({"type": "string", "pattern": "^[A-Za-z0-9_.:/-]{3,1024}$"});
    [] Text => |_| json_schema!({"type": "string", "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"});
    [T: Words] Word<T> => |_| {
        let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        json_schema!({"type": "string", "enum": words})
    };
}
