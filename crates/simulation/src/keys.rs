//! Keys to the HTTP interface, as users make and end them.

use redrive_domain::{
    command::{Command, CreateKey, RevokeKey},
    ids::{KeyId, KeyName},
    keys::{Scope, Scopes, SecretHash},
    time::Millis,
};
use uuid::Uuid;

use crate::{dice::Dice, world::START};

/// Keys of a namespace that its users know of: few, so that they come in each other's way.
const KEYS: u32 = 6;
/// As long as a seed, about: some keys end by themselves.
const SOON: Millis = Millis::seconds(60);

/// Makes a key, or ends one that may be there or not. Who asks twice may ask for something else.
pub(crate) fn command(dice: &mut Dice) -> Command {
    let key = KeyId(Uuid::from_u128(u128::from(dice.count(1..=KEYS))));
    let name = KeyName::new(*dice.pick(&["ci", "ci", "ops"]));
    let scope = *dice.pick(&[Scope::Read, Scope::Read, Scope::Admin]);
    match (dice.happens(0.6), name, Scopes::new([scope])) {
        (true, Ok(name), Ok(scopes)) => Command::CreateKey(CreateKey {
            key,
            name,
            scopes,
            hash: SecretHash([dice.count(0..=255) as u8; 32]),
            expires_at: *dice.pick(&[None, None, Some(START), Some(START.plus(SOON))]),
        }),
        _ => Command::RevokeKey(RevokeKey { key }),
    }
}
