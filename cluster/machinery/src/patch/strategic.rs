//! Kubernetes' strategic merge patch: a merge patch that knows which lists are maps in disguise, with directives
//! (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…`, `$setElementOrder/…`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::error::PatchError;
use crate::fields::{Field, Kind, Merge, SCHEMA, field_of};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// `message`: what the object is in the table of fields.
pub(super) fn apply(message: Option<&'static str>, current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let (Value::Object(current), Value::Object(patch)) = (current, patch) else {
        return Err(malformed("strategic merge patch must be an object"));
    };
    At(message).objects(current.clone(), patch.clone()).map(Value::Object)
}

/// The message that is merged. None: something that the table does not know, of whose lists that of the patch is taken.
#[derive(Clone, Copy)]
struct At(Option<&'static str>);

impl At {
    fn field(self, name: &str) -> Option<&'static Field> {
        field_of(self.0?, name)
    }

    /// What a field holds, or each of its items.
    fn below(field: Option<&Field>) -> Self {
        Self(field.and_then(|field| match field.kind {
            Kind::Message(inner) => Some(inner),
            Kind::Schema(_) => Some(SCHEMA),
            _ => None,
        }))
    }

    fn objects(self, mut original: Object, mut patch: Object) -> Result<Object, PatchError> {
        match patch.remove(PATCH) {
            None => {}
            Some(Value::String(directive)) => match directive.as_str() {
                "replace" => return Ok(without_directives(patch)),
                "delete" => return Ok(Object::new()),
                "merge" => {}
                other => return Err(malformed(&format!("unknown patch type found: {other}"))),
            },
            Some(other) => return Err(malformed(&format!("unknown patch type found: {other}"))),
        }
        if let Some(retain) = patch.remove(RETAIN_KEYS) {
            retain_keys(&mut original, &patch, &retain)?;
        }
        self.ordered_lists(&mut original, &mut patch)?;
        for (key, value) in patch {
            self.entry(&mut original, key, value)?;
        }
        Ok(original)
    }

    fn entry(self, original: &mut Object, key: String, value: Value) -> Result<(), PatchError> {
        if let Some(list) = key.strip_prefix(DELETE_FROM) {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (original.get_mut(list), &value) {
                let gone: BTreeSet<String> = gone.iter().map(Value::to_string).collect();
                items.retain(|item| !gone.contains(&item.to_string()));
            }
            return Ok(());
        }
        if value.is_null() {
            original.remove(&key);
            return Ok(());
        }
        let field = self.field(&key);
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(_)), new @ Value::Object(_)) if merge_of(field) == Merge::Replace => Some(new),
            (Some(Value::Object(old)), Value::Object(new)) => Some(Self::below(field).objects(old, new)?.into()),
            (Some(Value::Array(old)), Value::Array(new)) => Some(lists(field, old, new)?.into()),
            (_, new) => clean(new),
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
        Ok(())
    }

    /// One element of a patch list that is merged by `key`.
    fn element(self, merged: &mut Elements, wanted: &mut Places, key: &str, item: Value) -> Result<(), PatchError> {
        let Some(id) = item.get(key).filter(|id| !id.is_null()).map(Value::to_string) else {
            return Err(malformed(&format!(
                "map: {item} does not contain declared merge key: {key}"
            )));
        };
        if directive(&item) == Some("delete") {
            merged.remove(&id);
            return Ok(());
        }
        wanted.add(id.clone());
        let Value::Object(new) = item else {
            return Err(malformed("an element of a merged list must be an object"));
        };
        match merged.get_mut(&id) {
            Some(Value::Object(old)) => *old = self.objects(std::mem::take(old), new)?,
            _ => merged.push(id, without_directives(new).into()),
        }
        Ok(())
    }

    /// Handles `$setElementOrder/x` together with `x`, and takes both out of the patch.
    fn ordered_lists(self, original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
        let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
        for directive in directives {
            let Some(Value::Array(order)) = patch.remove(&directive) else {
                return Err(malformed(&format!("{directive} must be a list")));
            };
            let field = directive[SET_ORDER.len()..].to_owned();
            let ordered = ordered_list(self.field(&field), original.get(&field), patch.remove(&field), &order)?;
            if let Some(list) = ordered {
                original.insert(field, list);
            }
        }
        Ok(())
    }
}

fn merge_of(field: Option<&Field>) -> Merge {
    field.map_or(Merge::Plain, |field| field.merge)
}

fn lists(field: Option<&Field>, original: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    match merge_of(field) {
        Merge::Plain | Merge::Replace => Ok(patch),
        Merge::Set => {
            let (before, wanted) = (Places::of(&original, None), Places::of(&patch, None));
            let mut known: BTreeSet<String> = original.iter().map(Value::to_string).collect();
            let mut merged = original;
            merged.extend(patch.into_iter().filter(|item| known.insert(item.to_string())));
            Ok(reorder(merged, &wanted, &before, None))
        }
        Merge::ByKey(key) => {
            if patch.iter().any(|item| directive(item) == Some("replace")) {
                return Ok(patch.into_iter().filter_map(clean).collect());
            }
            let before = Places::of(&original, Some(key));
            let mut merged = Elements::new(original, key);
            let mut wanted = Places::default();
            for item in patch {
                At::below(field).element(&mut merged, &mut wanted, key, item)?;
            }
            Ok(reorder(merged.into_list(), &wanted, &before, Some(key)))
        }
    }
}

fn ordered_list(
    field: Option<&Field>,
    old: Option<&Value>,
    new: Option<Value>,
    order: &[Value],
) -> Result<Option<Value>, PatchError> {
    let key = match merge_of(field) {
        Merge::ByKey(key) => Some(key),
        Merge::Set => None,
        Merge::Plain | Merge::Replace => return Ok(new.or_else(|| old.cloned())),
    };
    let before = match old {
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    };
    let places = Places::of(&before, key);
    let merged = match new {
        Some(Value::Array(patch)) => {
            check_order(&patch, order, key)?;
            lists(field, before, patch)?
        }
        Some(Value::Null) => Vec::new(),
        Some(_) => return Err(malformed("a list cannot be patched with something else")),
        None if old.is_none() => return Ok(None),
        None => before,
    };
    Ok(Some(Value::Array(reorder(
        merged,
        &Places::of(order, key),
        &places,
        key,
    ))))
}

/// `$retainKeys`: fields of the original that the list does not name are dropped.
fn retain_keys(original: &mut Object, patch: &Object, retain: &Value) -> Result<(), PatchError> {
    let Value::Array(keys) = retain else {
        return Err(malformed("invalid patch format of retainKeys"));
    };
    let keys: BTreeSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let kept = |name: &String| keys.contains(name.as_str());
    if let Some(stray) = patch.keys().find(|k| !k.starts_with('$') && !kept(k)) {
        return Err(malformed(&format!(
            "field {stray} is in the patch but not in its $retainKeys"
        )));
    }
    original.retain(|name, _| kept(name));
    Ok(())
}

/// The elements of a patch list must come in the order that `$setElementOrder` says.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| directive(item).is_none()) {
        if !rest.any(|wanted| same(wanted, item, key)) {
            return Err(malformed(&format!(
                "the order in the patch list does not match $setElementOrder: {item}"
            )));
        }
    }
    Ok(())
}

/// Puts a merged list in order: elements that `first` names in that order, the others where they stood in `before`
/// relative to them. Elements unknown to `before` come as early as the order of `first` allows; Kubernetes does the same.
fn reorder(merged: Vec<Value>, first: &Places, before: &Places, key: Option<&str>) -> Vec<Value> {
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in merged {
        let id = identity(&item, key);
        let place = |places: &Places| id.as_ref().and_then(|id| places.0.get(id).copied());
        match (place(first), place(before)) {
            (Some(wanted), stood) => named.push((wanted, stood, item)),
            (None, stood) => others.push((stood.unwrap_or(usize::MAX), item)),
        }
    }
    named.sort_by_key(|(wanted, ..)| *wanted);
    others.sort_by_key(|(stood, _)| *stood);
    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, stood, item) in named {
        if let Some(place) = stood {
            while let Some((_, other)) = others.next_if(|(p, _)| *p < place) {
                result.push(other);
            }
        }
        result.push(item);
    }
    result.extend(others.map(|(_, item)| item));
    result
}

/// Where the elements of a list stand: of several that are the same, the first.
#[derive(Default)]
struct Places(BTreeMap<String, usize>);

impl Places {
    fn of(list: &[Value], key: Option<&str>) -> Self {
        let mut places = Self::default();
        for (place, item) in list.iter().enumerate() {
            if let Some(id) = identity(item, key) {
                places.0.entry(id).or_insert(place);
            }
        }
        places
    }

    /// Behind those that are there.
    fn add(&mut self, id: String) {
        let place = self.0.len();
        self.0.entry(id).or_insert(place);
    }
}

/// A list that is merged by a key, whose elements are found without walking over it.
struct Elements {
    /// None: removed.
    slots: Vec<Option<Value>>,
    by_id: BTreeMap<String, Vec<usize>>,
}

impl Elements {
    fn new(list: Vec<Value>, key: &str) -> Self {
        let mut by_id: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, item) in list.iter().enumerate() {
            if let Some(id) = identity(item, Some(key)) {
                by_id.entry(id).or_default().push(place);
            }
        }
        let slots = list.into_iter().map(Some).collect();
        Self { slots, by_id }
    }

    /// The first of that identity.
    fn get_mut(&mut self, id: &str) -> Option<&mut Value> {
        let place = *self.by_id.get(id)?.first()?;
        self.slots.get_mut(place)?.as_mut()
    }

    fn push(&mut self, id: String, item: Value) {
        self.by_id.entry(id).or_default().push(self.slots.len());
        self.slots.push(Some(item));
    }

    /// All of that identity.
    fn remove(&mut self, id: &str) {
        for place in self.by_id.remove(id).unwrap_or_default() {
            if let Some(slot) = self.slots.get_mut(place) {
                *slot = None;
            }
        }
    }

    fn into_list(self) -> Vec<Value> {
        self.slots.into_iter().flatten().collect()
    }
}

/// What makes an element of a list the same as another: its key's value, or without a key all of it. As text, whose order is total.
fn identity(item: &Value, key: Option<&str>) -> Option<String> {
    match key {
        Some(key) => item.get(key).map(Value::to_string),
        None => Some(item.to_string()),
    }
}

fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

fn directive(item: &Value) -> Option<&str> {
    item.get(PATCH).and_then(Value::as_str)
}

/// A value that meets nothing in the original: nulls in it mean nothing, and what has a directive is not there. An object that has
/// one is lost whole, as in Kubernetes.
fn clean(value: Value) -> Option<Value> {
    match value {
        Value::Object(object) if object.contains_key(PATCH) => None,
        Value::Object(object) => Some(without_directives(object).into()),
        Value::Array(items) => Some(items.into_iter().filter_map(clean).collect()),
        other => Some(other),
    }
}

fn without_directives(object: Object) -> Object {
    object
        .into_iter()
        .filter(|(key, value)| !value.is_null() && !is_directive(key))
        .filter_map(|(key, value)| Some((key, clean(value)?)))
        .collect()
}

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER)
}

fn malformed(message: &str) -> PatchError {
    PatchError::Malformed(message.to_owned())
}
