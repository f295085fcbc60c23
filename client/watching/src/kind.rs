//! What a cache has to know of the kind of its objects.

use std::hash::Hash;

use afloat_words::key::Key;
use afloat_words::texts::Pool;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

/// Objects of one kind, as one cache keeps them. Where types are of another crate, a type of its own stands for the kind.
pub trait Kind: Send + Sync + 'static {
    /// An object as it comes from the API server.
    type Wire;
    /// What is kept of it.
    type Kept: Send + Sync + 'static;
    /// What objects are found under beside their keys: an owner's UID, a node's name. Clones should share their texts.
    type Index: Clone + Eq + Hash + Send + Sync + 'static;
    /// Reads an object's text. Of a kind that comes by the thousand, its own crate reads it: there it is built for speed.
    ///
    /// # Errors
    /// It is no such object.
    fn read(text: &str) -> serde_json::Result<Self::Wire>
    where
        Self::Wire: DeserializeOwned,
    {
        serde_json::from_str(text)
    }
    /// Keeps what is read of an object.
    fn keep(wire: Self::Wire) -> Self::Kept;
    /// Where it is.
    fn key(object: &Self::Kept) -> Key;
    /// Its UID.
    fn uid(object: &Self::Kept) -> &str;
    /// Whether somebody has deleted it, and it only waits for its end.
    fn deleting(object: &Self::Kept) -> bool;
    /// What it is found under. An object that has no index is not kept.
    fn indexes(object: &Self::Kept) -> Vec<Self::Index>;
    /// Takes the texts that others have, too: the object as it was before, of which most is as it is now, and all others.
    fn share(_object: &mut Self::Kept, _before: Option<&Self::Kept>, _texts: &mut Pool) {}
}

/// A kind whose objects are kept as they come, but for what is taken away of them.
pub trait Whole: Send + Sync + 'static {
    /// An object.
    type Object: Metadata<Ty = ObjectMeta> + Send + Sync + 'static;
    /// See [`Kind::Index`].
    type Index: Clone + Eq + Hash + Send + Sync + 'static;
    /// Takes away what nobody asks for.
    fn shrink(_object: &mut Self::Object) {}
    /// See [`Kind::indexes`].
    fn indexes(object: &Self::Object) -> Vec<Self::Index>;
}

impl<W: Whole> Kind for W {
    type Wire = W::Object;
    type Kept = W::Object;
    type Index = W::Index;

    fn keep(mut wire: W::Object) -> W::Object {
        W::shrink(&mut wire);
        wire
    }

    fn key(object: &W::Object) -> Key {
        Key::of(object.metadata())
    }

    fn uid(object: &W::Object) -> &str {
        object.metadata().uid.as_deref().unwrap_or_default()
    }

    fn deleting(object: &W::Object) -> bool {
        object.metadata().deletion_timestamp.is_some()
    }

    fn indexes(object: &W::Object) -> Vec<W::Index> {
        <W as Whole>::indexes(object)
    }
}
