//! What is done to users besides logging them in: each change and what it means for the user's
//! tokens in one transaction.

use sqlx::{Acquire, MySqlConnection};

use super::{
    LOOKUP, StoreError, UserRow, bytes, cannot_be_in_the_column, exactly, found, number, persistently,
    revocations::raise, text, user_rows,
};
use crate::{
    contract::DatabaseFault,
    server::traces::{command, statement},
};

const LIST: &str = user_rows!("u.id > ? ORDER BY u.id LIMIT ?");
const BY_ID: &str = user_rows!("u.id = ?");
const SET_ADMIN: &str = "REPLACE INTO `authservice_user` (user_id, admin) VALUES (?, ?)";
const UNSET_ADMIN: &str = "DELETE FROM `authservice_user` WHERE user_id = ?";
/// The id of a row that no transaction leaves behind.
const NOBODY: i64 = i64::MIN;
const DISABLE: &str = "UPDATE `authservice_access` SET disabled = ? WHERE user_id = ?";

/// What becomes of a user; what is `None` stays as it is.
#[derive(Default)]
pub(crate) struct Change {
    /// The new e-mail.
    pub(crate) email: Option<String>,
    /// Whether the user is an admin from now on.
    pub(crate) admin: Option<bool>,
    /// Whether the user may not log in from now on.
    pub(crate) disabled: Option<bool>,
    /// The hash of the new password.
    pub(crate) hash: Option<String>,
}

/// The user of this id.
pub(crate) async fn find_by_id(
    connection: &mut MySqlConnection,
    id: i64,
) -> Result<Option<UserRow>, StoreError> {
    let row = sqlx::query(BY_ID).bind(id).fetch_optional(connection);
    let row = statement("SELECT", "user", row).await?;
    row.map(|row| Ok(UserRow::read(&row, &text(&row, 1)?)?)).transpose()
}

/// The user whose stored e-mail is exactly this one.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    email: &str,
) -> Result<Option<UserRow>, StoreError> {
    let rows = sqlx::query(LOOKUP).bind(email).fetch_all(connection);
    exactly(&found(statement("SELECT", "user", rows).await)?, email)
}

/// At most `limit` users in the order of their ids, from the first after `after`.
pub(crate) async fn list(
    connection: &mut MySqlConnection,
    after: i64,
    limit: u32,
) -> Result<Vec<UserRow>, StoreError> {
    let rows = sqlx::query(LIST).bind(after).bind(limit).fetch_all(connection);
    let rows = statement("SELECT", "user", rows).await?;
    rows.iter().map(|row| Ok(UserRow::read(row, &text(row, 1)?)?)).collect()
}

/// The id of the row with exactly this e-mail; needs no table of ours.
pub(crate) async fn find_id(
    connection: &mut MySqlConnection,
    email: &str,
) -> Result<Option<i64>, StoreError> {
    use sqlx::Row;
    let rows = sqlx::query("SELECT CAST(id AS SIGNED), email FROM `user` WHERE email = ? LIMIT 64")
        .bind(email)
        .fetch_all(connection);
    let rows = match statement("SELECT", "user", rows).await {
        Err(error) if cannot_be_in_the_column(&error) => Vec::new(),
        result => result?,
    };
    for row in &rows {
        if bytes(row, 1)? == email.as_bytes() {
            return Ok(Some(row.try_get(0)?));
        }
    }
    Ok(None)
}

/// Inserts the user and the entry beside it in one transaction; `None` when the e-mail is taken.
/// A user without an entry is an admin, so half of it must never be seen. `admin` is `None` where there
/// is no table for the entry.
pub(crate) async fn insert(
    connection: &mut MySqlConnection,
    email: &str,
    hash: &str,
    admin: Option<bool>,
) -> Result<Option<i64>, StoreError> {
    persistently!(try_to_insert(connection, email, hash, admin).await)
}

async fn try_to_insert(
    connection: &mut MySqlConnection,
    email: &str,
    hash: &str,
    admin: Option<bool>,
) -> Result<Option<i64>, StoreError> {
    let mut transaction = command("BEGIN", connection.begin()).await?;
    // The column of an adopted table need not be unique, so one insertion at a time looks for the e-mail:
    // others wait at this row or, from another member of a cluster, are given up for it.
    if admin.is_some() {
        set_admin(&mut transaction, NOBODY, false).await?;
        unset_admin(&mut transaction, NOBODY).await?;
    }
    if find_id(&mut transaction, email).await?.is_some() {
        transaction.rollback().await?;
        return Ok(None);
    }
    let insert = sqlx::query("INSERT INTO `user` (email, password) VALUES (?, ?)")
        .bind(email)
        .bind(hash)
        .execute(&mut *transaction);
    match statement("INSERT", "user", insert).await {
        Ok(_) => {}
        Err(error) if number(&error) == Some(1062) => {
            transaction.rollback().await?;
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    }
    let id = find_id(&mut transaction, email).await?.ok_or_else(|| {
        let words = format!("e-mail {email} was not stored as written; the column cannot hold it");
        StoreError::new(DatabaseFault::SchemaIncompatible, words)
    })?;
    if let Some(admin) = admin {
        set_admin(&mut transaction, id, admin).await?;
        // The id may have been another user's, whose tokens must not pass for this one's.
        if set_disabled(&mut transaction, id, false).await? {
            raise(&mut transaction, id, email).await?;
        }
    }
    command("COMMIT", transaction.commit()).await?;
    Ok(Some(id))
}

/// Changes a user, all of it or nothing, and ends every token: those that carry what has changed, and
/// those from before a password or a disabling. Says whether the new e-mail was free.
pub(crate) async fn change(
    connection: &mut MySqlConnection,
    user: &UserRow,
    change: &Change,
) -> Result<bool, StoreError> {
    persistently!(try_to_change(connection, user, change).await)
}

async fn try_to_change(
    connection: &mut MySqlConnection,
    user: &UserRow,
    change: &Change,
) -> Result<bool, StoreError> {
    let mut transaction = command("BEGIN", connection.begin()).await?;
    if let Some(email) = &change.email {
        if find_id(&mut transaction, email).await?.is_some_and(|id| id != user.id) {
            transaction.rollback().await?;
            return Ok(false);
        }
        let update = sqlx::query("UPDATE `user` SET email = ? WHERE id = ?").bind(email).bind(user.id);
        match statement("UPDATE", "user", update.execute(&mut *transaction)).await {
            Ok(_) => {}
            Err(error) if number(&error) == Some(1062) => {
                transaction.rollback().await?;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(hash) = &change.hash {
        let update = sqlx::query("UPDATE `user` SET password = ? WHERE id = ?").bind(hash).bind(user.id);
        statement("UPDATE", "user", update.execute(&mut *transaction)).await?;
    }
    if let Some(admin) = change.admin {
        set_admin(&mut transaction, user.id, admin).await?;
    }
    raise(&mut transaction, user.id, &user.email).await?;
    if let Some(disabled) = change.disabled {
        set_disabled(&mut transaction, user.id, disabled).await?;
    }
    command("COMMIT", transaction.commit()).await?;
    Ok(true)
}

/// Deletes the user. The entry that ends the tokens stays.
pub(crate) async fn delete(connection: &mut MySqlConnection, user: &UserRow) -> Result<(), StoreError> {
    persistently!(try_to_delete(connection, user).await)
}

async fn try_to_delete(connection: &mut MySqlConnection, user: &UserRow) -> Result<(), StoreError> {
    let mut transaction = command("BEGIN", connection.begin()).await?;
    raise(&mut transaction, user.id, &user.email).await?;
    unset_admin(&mut transaction, user.id).await?;
    let delete = sqlx::query("DELETE FROM `user` WHERE id = ?").bind(user.id).execute(&mut *transaction);
    statement("DELETE", "user", delete).await?;
    Ok(command("COMMIT", transaction.commit()).await?)
}

/// Ends every token that the user has by now.
pub(crate) async fn end_tokens(connection: &mut MySqlConnection, user: &UserRow) -> Result<(), StoreError> {
    persistently!(raise(connection, user.id, &user.email).await.map_err(StoreError::from))
}

async fn set_admin(connection: &mut MySqlConnection, id: i64, admin: bool) -> Result<(), sqlx::Error> {
    let set = sqlx::query(SET_ADMIN).bind(id).bind(admin).execute(connection);
    statement("REPLACE", "authservice_user", set).await?;
    Ok(())
}

async fn unset_admin(connection: &mut MySqlConnection, id: i64) -> Result<(), sqlx::Error> {
    let unset = sqlx::query(UNSET_ADMIN).bind(id).execute(connection);
    statement("DELETE", "authservice_user", unset).await?;
    Ok(())
}

/// Says whether the user has an entry.
async fn set_disabled(
    connection: &mut MySqlConnection,
    id: i64,
    disabled: bool,
) -> Result<bool, sqlx::Error> {
    let set = sqlx::query(DISABLE).bind(disabled).bind(id).execute(connection);
    Ok(statement("UPDATE", "authservice_access", set).await?.rows_affected() > 0)
}
