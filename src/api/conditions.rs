//! Condition types and reasons: everything `kubectl describe authservice` can say.

use std::fmt;

use crate::contract::DatabaseFault;

/// An enum whose variants are the words themselves, with a list of them for the documentation.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$word_doc])* $word,)* }

        impl $name {
            /// Every word, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$word,)*];

            /// The word as it stands in a condition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => stringify!($word),)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// The type of a condition. The first five are always present; the others appear while they are true.
    ConditionType {
        /// The service is what spec asks for, and answers. Sums up the next four.
        Ready,
        /// The database answers the server's account.
        DatabaseReady,
        /// Database, account and tables are in place.
        SchemaReady,
        /// At least one server pod answers.
        Available,
        /// A change is being rolled out, or pods are missing. The only one of the five that is False at rest.
        Progressing,
        /// `spec.suspend` is true: nothing but status is changed.
        Suspended,
        /// A child cannot be made, because an object of its name belongs to someone else.
        NameTaken,
        /// A Secret that data or tokens depend on is gone; nothing was made in its place.
        SecretLost,
        /// Annotation `authservice.dev/regenerate` names a Secret that exists: the next loss of it would be
        /// made good without a word. Does not touch `Ready`.
        RegenerateRequested,
        /// A Secret that spec refers to is missing or cannot be used; what depends on it stays as it is.
        SecretUnusable,
        /// A field of spec cannot be followed; what it says stays as it is in the live objects.
        FieldRefused,
        /// The API server refused a child; the message has its own words.
        ChildRefused,
        /// A bootstrap user does not exist and cannot be created. Does not touch `Ready`.
        BootstrapUserMissing,
        /// A right is missing in the database; the message lists what is off. Does not touch `Ready`.
        FeaturesLimited,
    }
}

words! {
    /// The reason of a condition.
    Reason {
        /// All is as it should be.
        AsExpected,
        /// Nothing is being changed.
        Settled,
        /// The managed database's pod is not ready yet.
        DatabaseStarting,
        /// Nothing has asked the database yet.
        NotYetChecked,
        /// The migration Job waits for the managed database.
        WaitingForDatabase,
        /// The migration Job waits for a Secret or for another object that is refused.
        WaitingForInputs,
        /// The migration Job is running.
        Migrating,
        /// The migration Job failed without a word of its own, such as a pod that was evicted.
        MigrationFailed,
        /// Server pods are starting, or being replaced.
        RollingOut,
        /// Server pods have made no progress for the Deployment's progressDeadlineSeconds.
        ProgressDeadlineExceeded,
        /// Fewer server pods are ready than spec asks for.
        ReplicasMissing,
        /// There is no Deployment.
        DeploymentMissing,
        /// `spec.suspend` is true.
        Suspended,
        /// An object of a child's name belongs to someone else: rename or delete it.
        NameTaken,
        /// A child of a deleted resource of the same name is still being removed.
        LeftoverTerminating,
        /// A Secret that data or tokens depend on is gone: restore it.
        SecretLost,
        /// A Secret that spec refers to does not exist.
        SecretMissing,
        /// A Secret that spec refers to lacks a key, or holds a value that cannot be used.
        SecretInvalid,
        /// A field of spec that the API server should have refused.
        SpecInvalid,
        /// The API server, an admission policy or a quota refused a child.
        ChildRefused,
        /// The annotation is to be removed.
        AnnotationLeft,
        /// A bootstrap user's password is missing.
        PasswordMissing,
        /// The database account lacks the right to make our own tables.
        RightsMissing,
        /// No connection to the database.
        DatabaseUnreachable,
        /// The database refused the account.
        CredentialsRejected,
        /// The account lacks a right that is needed.
        GrantMissing,
        /// The database or a table that is needed does not exist.
        SchemaMissing,
        /// Our tables are older than this release needs.
        SchemaOutdated,
        /// Table `user` cannot be used.
        SchemaIncompatible,
        /// Anything else the database said.
        DatabaseError,
    }
}

impl From<DatabaseFault> for Reason {
    fn from(fault: DatabaseFault) -> Self {
        match fault {
            DatabaseFault::DatabaseUnreachable => Self::DatabaseUnreachable,
            DatabaseFault::CredentialsRejected => Self::CredentialsRejected,
            DatabaseFault::GrantMissing => Self::GrantMissing,
            DatabaseFault::SchemaMissing => Self::SchemaMissing,
            DatabaseFault::SchemaOutdated => Self::SchemaOutdated,
            DatabaseFault::SchemaIncompatible => Self::SchemaIncompatible,
            DatabaseFault::DatabaseError => Self::DatabaseError,
        }
    }
}
