//! `CheckPermissions`, `ExplainAccess` and `auth-service explain`, and the permission that a refusal names.

use std::process::{Output, Stdio};

use auth_service::proto::{
    AccessRemedy, AddMemberRequest, CheckPermissionsRequest, CreateGroupRequest, DeactivateUserRequest, ExplainAccessRequest,
    ExplainAccessResponse, GrantRequest, Group, RemoveMemberRequest, SetPasswordRequest, grant_request,
};
use testing::assert_refused;
use testing::on_both_engines;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    app::{Actor, App, PASSWORD},
    starting::{assert_fails, process},
};

/// The id of no user.
const NOBODY: &str = "018f0000-0000-7000-8000-000000000000";
const CREATE_NOTE: &str = "/profiles.v1.NoteService/CreateNote";

impl Actor {
    /// Returns whether the user has each permission, and whether it is known.
    async fn check(&self, user_id: &str, permissions: &[&str]) -> Result<Vec<(bool, bool)>, Status> {
        let permissions = permissions.iter().map(ToString::to_string).collect();
        let request = CheckPermissionsRequest { user_id: user_id.to_owned(), permissions };
        let answer = self.identity().check_permissions(request).await?.into_inner();
        Ok(answer.results.iter().map(|result| (result.is_held, result.is_known)).collect())
    }

    async fn explain(&self, method: &str, user_id: &str, owner_id: &str) -> Result<ExplainAccessResponse, Status> {
        let request =
            ExplainAccessRequest { method: method.to_owned(), user_id: user_id.to_owned(), owner_id: owner_id.to_owned() };
        self.identity().explain_access(request).await.map(tonic::Response::into_inner)
    }

    /// Creates a group with this permission.
    async fn group_with(&self, name: &str, permission: &str) -> String {
        let group = Some(Group { name: name.to_owned(), ..Group::default() });
        let group_id = self.groups().create_group(CreateGroupRequest { group }).await.expect("a group").into_inner().group_id;
        let holder = Some(grant_request::Holder::GroupId(group_id.clone()));
        let request = GrantRequest { permission: permission.to_owned(), holder };
        self.permissions().grant(request).await.expect("a grant");
        group_id
    }

    async fn add_to_group(&self, group_id: &str, user_id: &str) {
        let request = AddMemberRequest { group_id: group_id.to_owned(), user_id: user_id.to_owned() };
        self.groups().add_member(request).await.expect("a member");
    }
}

impl App {
    /// Runs `auth-service explain` with these arguments, and the access rules of the profile service.
    fn explain(&self, arguments: &[&str]) -> Output {
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/access-rules/profile-service.json");
        let mut command = process(&["explain", "--database-url", self.database.url(), "--access-rules", rules]);
        command.args(arguments).stdout(Stdio::piped()).output().expect("a process")
    }

    /// Returns the output of `auth-service explain`, which must succeed.
    fn explanation(&self, arguments: &[&str]) -> String {
        let output = self.explain(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

fn remedies(answer: &ExplainAccessResponse) -> Vec<&str> {
    let remedies = answer.conditions.iter().flat_map(|condition| &condition.remedies);
    remedies.map(|remedy| remedy.description.as_str()).collect()
}

fn failures(answer: &ExplainAccessResponse) -> Vec<&str> {
    let failing = answer.conditions.iter().filter(|condition| !condition.holds);
    failing.map(|condition| condition.finding.as_str()).collect()
}

/// Returns the permission that a refusal names.
fn missing_permission<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Option<String> {
    let status = outcome.expect_err("a refusal");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    status.get_details_error_info().expect("ErrorInfo").metadata.get("permission").cloned()
}

on_both_engines! {
    async fn permissions_of_a_user_are_checked(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let user_id = alice.user.user_id.as_str();
        let all = ["auth.view_user", "profile.change_note", "auth.fly", "auth.view_key"];
        let nothing = [(false, true), (false, true), (false, false), (false, true)];
        assert_eq!(alice.check("me", &all).await.expect("results"), nothing);
        root.grant("auth.view_user", user_id).await.expect("a grant");
        let editors = root.group_with("Editors", "profile.change_note").await;
        root.add_to_group(&editors, user_id).await;
        let some = vec![(true, true), (true, true), (false, false), (false, true)];
        assert_eq!(root.check(user_id, &all).await.expect("results"), some);
        let superuser = vec![(true, true), (true, true), (false, false), (true, true)];
        assert_eq!(root.check("me", &all).await.expect("results"), superuser);

        let bob = app.user("bob").await;
        assert_eq!(missing_permission(bob.check(user_id, &all).await), Some("auth.view_permission".to_owned()));
        assert_refused(root.check(NOBODY, &all).await, Code::NotFound, "NOT_FOUND", &[("user_id", "EXISTS")]);
        let empty = root.check(user_id, &[]).await;
        assert_refused(empty, Code::InvalidArgument, "FIELD_INVALID", &[("permissions", "REPEATED_MIN_ITEMS")]);
        let user_id = user_id.to_owned();
        root.users().deactivate_user(DeactivateUserRequest { user_id: user_id.clone() }).await.expect("a user");
        assert_eq!(root.check(&user_id, &all).await.expect("results"), nothing);
    }

    async fn an_explanation_names_the_failing_condition_and_its_remedies(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let user_id = alice.user.user_id.as_str();
        let editors = root.group_with("Editors", "profile.add_note").await;

        let denied = root.explain("NoteService.CreateNote", user_id, "").await.expect("an explanation");
        assert_eq!((denied.method.as_str(), denied.service.as_str(), denied.is_allowed), (CREATE_NOTE, "profile-service", false));
        assert_eq!(
            denied.rule,
            "Only the owner of the resource, and users and service accounts with the permission profile.add_note, may call this method."
        );
        let finding = "No owner is given, so the resource belongs to another user. \
                       The user does not have the permission profile.add_note.";
        assert_eq!(failures(&denied), [finding]);
        let grant = AccessRemedy {
            description: "Grant profile.add_note to the user.".to_owned(),
            permission: "profile.add_note".to_owned(),
            group_id: String::new(),
        };
        let join = AccessRemedy {
            description: "Add the user to the group \"Editors\".".to_owned(),
            permission: String::new(),
            group_id: editors.clone(),
        };
        assert_eq!(denied.conditions[1].remedies, [grant, join]);
        // A user who may not see the groups learns of none.
        let own = alice.explain(CREATE_NOTE, "me", &root.user.user_id).await.expect("an explanation");
        assert_eq!(remedies(&own), ["Grant profile.add_note to the user."]);
        let owner = alice.explain(CREATE_NOTE, "me", user_id).await.expect("an explanation");
        assert!(owner.is_allowed && owner.conditions.iter().all(|condition| condition.holds), "{owner:?}");

        // Each remedy makes the condition hold.
        root.add_to_group(&editors, user_id).await;
        let held = app.again(&alice).await.explain(CREATE_NOTE, "me", "").await.expect("an explanation");
        assert!(held.is_allowed, "{held:?}");
        assert!(held.conditions[1].finding.ends_with("The group \"Editors\" gives profile.add_note to the user."), "{held:?}");
        let remove = RemoveMemberRequest { group_id: editors, user_id: user_id.to_owned() };
        root.groups().remove_member(remove).await.expect("a removal");
        root.grant("profile.add_note", user_id).await.expect("a grant");
        let held = root.explain(CREATE_NOTE, user_id, "").await.expect("an explanation");
        assert!(held.is_allowed && held.conditions[1].finding.ends_with("profile.add_note is granted to the user."), "{held:?}");

        root.users().deactivate_user(DeactivateUserRequest { user_id: user_id.to_owned() }).await.expect("a user");
        let inactive = root.explain(CREATE_NOTE, user_id, user_id).await.expect("an explanation");
        assert_eq!(failures(&inactive), ["The user is not active, so they have no access token."]);
        assert_eq!(remedies(&inactive), ["Activate the user."]);
        let bob = app.user("bob").await;
        let for_superusers = bob.explain("GrantSuperuser", "me", "").await.expect("an explanation");
        assert_eq!(remedies(&for_superusers), ["Make the user a superuser."]);
        let for_services = root.explain("EventService.WatchEvents", "me", "").await.expect("an explanation");
        assert_eq!(failures(&for_services), ["The caller is a user. No permission changes this."]);
        assert!(remedies(&for_services).is_empty());
    }

    async fn explain_access_refuses_unknown_methods_and_users_and_other_callers(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let unknown = root.explain("/greeter.v1.GreeterService/Greet", "me", "").await;
        assert_refused(unknown, Code::NotFound, "NOT_FOUND", &[("method", "EXISTS")]);
        let nobody = root.explain("GetUser", NOBODY, "").await;
        assert_refused(nobody, Code::NotFound, "NOT_FOUND", &[("user_id", "EXISTS")]);
        let other = alice.explain("GetUser", &root.user.user_id, "").await;
        assert_eq!(missing_permission(other), Some("auth.view_permission".to_owned()));
    }

    async fn a_refusal_names_the_missing_permission_unless_it_reveals_those_of_others(app: App) {
        let root = app.superuser("root").await;
        let clerk = app.clerk(&root, "clerk", &["auth.change_user", "auth.change_group"]).await;
        let keeper = app.clerk(&root, "keeper", &["auth.change_key"]).await;
        let keepers = root.group_with("Keepers", "auth.change_key").await;
        let set_password = async |clerk: &Actor| {
            let request = SetPasswordRequest { user_id: keeper.user.user_id.clone(), new_password: PASSWORD.to_owned() };
            clerk.users().set_password(request).await
        };
        let join = async |clerk: &Actor| {
            let request = AddMemberRequest { group_id: keepers.clone(), user_id: clerk.user.user_id.clone() };
            clerk.groups().add_member(request).await
        };
        assert_eq!(missing_permission(clerk.grant("auth.view_key", NOBODY).await), Some("auth.change_permission".to_owned()));
        // Without the permission to see permissions, the clerk does not learn which one the keeper has.
        assert_eq!(missing_permission(set_password(&clerk).await), None);
        assert_eq!(missing_permission(join(&clerk).await), None);
        for permission in ["auth.view_permission", "auth.view_group"] {
            root.grant(permission, &clerk.user.user_id).await.expect("a grant");
        }
        let clerk = app.again(&clerk).await;
        assert_eq!(missing_permission(set_password(&clerk).await), Some("auth.change_key".to_owned()));
        assert_eq!(missing_permission(join(&clerk).await), Some("auth.change_key".to_owned()));
    }

    async fn the_command_explains_as_the_method_does(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        root.group_with("Editors", "profile.add_note").await;
        let expected = "\
/profiles.v1.NoteService/CreateNote of profile-service
Only the owner of the resource, and users and service accounts with the
permission profile.add_note, may call this method.

holds  The user is active.
       The user is active.

fails  The user owns the resource, or has the permission profile.add_note.
       No owner is given, so the resource belongs to another user. The user does
       not have the permission profile.add_note.
       Possible change: Grant profile.add_note to the user.
       Possible change: Add the user to the group \"Editors\".

alice may not call this method.
";
        let user_id = alice.user.user_id.as_str();
        assert_eq!(app.explanation(&["NoteService.CreateNote", "--user", "Alice"]), expected);
        assert_eq!(app.explanation(&["NoteService.CreateNote", "--user", user_id, "--quiet"]), "refused\n");
        assert_eq!(app.explanation(&["NoteService.CreateNote", "--user", user_id, "--owner", "alice", "--quiet"]), "allowed\n");
        let json = app.explanation(&["NoteService.CreateNote", "--user", "alice", "--owner", user_id, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!((&json["method"], &json["is_allowed"]), (&CREATE_NOTE.into(), &true.into()));
        assert_eq!(json["conditions"][1]["finding"], "The user owns the resource.");

        assert_fails(&app.explain(&["GetUser", "--user", "nobody"]), "there is no user nobody");
        assert_fails(&app.explain(&["Greet", "--user", "alice"]), "no known service has the method \"Greet\"");
    }
}
