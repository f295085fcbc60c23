//! JSON as Go prints it: what OpenKruise and Kubernetes hash, and compare byte by byte.

use std::collections::BTreeMap;

use afloat_words::quoted::json_escaped;
use serde_json::Value;

/// A value as Go's encoder prints it: sorted keys, no spaces, numbers as floats, and
/// some characters escaped.
pub fn bytes(data: &Value) -> Vec<u8> {
    let mut out = String::new();
    print(data, &mut out);
    out.into_bytes()
}

fn print(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            out.push('{');
            let sorted: BTreeMap<_, _> = map.iter().collect();
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                print_text(key, out);
                out.push(':');
                print(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                print(item, out);
            }
            out.push(']');
        }
        Value::String(text) => print_text(text, out),
        // Beyond 2^53 Go's detour through floats rounds; all of it prints without an exponent below 1e21.
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.abs() < 1e21 && (float == 0.0 || float.abs() >= 1e-6) => {
                out.push_str(&float.to_string());
            }
            _ => out.push_str(&number.to_string()),
        },
        other => out.push_str(&other.to_string()),
    }
}

fn print_text(text: &str, out: &mut String) {
    out.push_str(&json_escaped(Value::from(text).to_string()));
}

/// FNV-1a over Go's print of the bytes of a JSON text, as Kubernetes and OpenKruise hash objects.
pub(crate) fn object_hash(json: &Value) -> u32 {
    bytes_hash(&bytes(json))
}

/// The same of a text.
pub(crate) fn bytes_hash(bytes: &[u8]) -> u32 {
    let bytes: Vec<_> = bytes.iter().map(u8::to_string).collect();
    let text = format!("([]uint8)[{}]", bytes.join(" "));
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
