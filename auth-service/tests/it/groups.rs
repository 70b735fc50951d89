//! Groups: create, get, list, rename, delete, and their members.

use auth_service::{
    Settings,
    proto::{
        AddMemberRequest, CreateGroupRequest, CreateUserRequest, DeleteGroupRequest, GetGroupRequest, Group, ListGroupsRequest,
        ListMembersRequest, UpdateGroupRequest, User, WhoAmIRequest, user_service_client::UserServiceClient,
    },
};
use prost_types::FieldMask;
use testing::assert_refused;
use testing::on_both_engines;
use tonic::{Code, Status};

use crate::app::{Actor, App, PASSWORD, registration};

/// An id that belongs to no group and to no user.
const NOTHING: &str = "018f0000-0000-7000-8000-000000000000";

async fn create(actor: &Actor, name: &str) -> Result<Group, Status> {
    let group = Some(Group { name: name.to_owned(), ..Group::default() });
    actor.groups().create_group(CreateGroupRequest { group }).await.map(tonic::Response::into_inner)
}

async fn update(actor: &Actor, group: Group, paths: &[&str]) -> Result<Group, Status> {
    let update_mask = Some(FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
    actor.groups().update_group(UpdateGroupRequest { group: Some(group), update_mask }).await.map(tonic::Response::into_inner)
}

on_both_engines! {
    async fn a_group_is_created_read_renamed_and_deleted(app: App) {
        let root = app.superuser("root").await;
        let group = create(&root, "Éditeurs").await.expect("a group");
        assert_eq!((group.name.as_str(), group.etag.as_str(), group.permissions.len()), ("Éditeurs", "\"1\"", 0));
        let get = GetGroupRequest { group_id: group.group_id.clone() };
        assert_eq!(root.groups().get_group(get.clone()).await.expect("a group").into_inner(), group);
        let renamed = update(&root, Group { name: "Writers".to_owned(), ..group.clone() }, &["name"]).await.expect("a group");
        assert_eq!((renamed.name.as_str(), renamed.etag.as_str()), ("Writers", "\"2\""));
        assert_eq!(update(&root, renamed.clone(), &["*"]).await.expect("the same"), renamed);
        let stale = update(&root, Group { name: "Late".to_owned(), ..group.clone() }, &["name"]).await;
        assert_refused(stale, Code::Aborted, "ETAG_STALE", &[("group.etag", "ETAG_CURRENT")]);
        let path = update(&root, group.clone(), &["members"]).await;
        assert_refused(path, Code::InvalidArgument, "MASK_PATH_INVALID", &[("update_mask", "UPDATE_MASK_PATH")]);

        let delete = |etag: &str| DeleteGroupRequest { group_id: group.group_id.clone(), etag: etag.to_owned() };
        let stale = root.groups().delete_group(delete(&group.etag)).await;
        assert_refused(stale, Code::Aborted, "ETAG_STALE", &[("etag", "ETAG_CURRENT")]);
        root.groups().delete_group(delete(&renamed.etag)).await.expect("a deletion");
        for outcome in [root.groups().get_group(get).await.map(drop), root.groups().delete_group(delete("")).await.map(drop)] {
            assert_refused(outcome, Code::NotFound, "NOT_FOUND", &[("group_id", "EXISTS")]);
        }
    }

    async fn a_group_has_a_description(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let group = Some(Group { name: "Editors".to_owned(), description: "They edit.".to_owned(), ..Group::default() });
        let group = root.groups().create_group(CreateGroupRequest { group }).await.expect("a group").into_inner();
        let get = GetGroupRequest { group_id: group.group_id.clone() };
        assert_eq!(group.description, "They edit.");
        assert_eq!(root.groups().get_group(get).await.expect("a group").into_inner(), group);
        let user_id = alice.user.user_id.clone();
        root.groups().add_member(AddMemberRequest { group_id: group.group_id.clone(), user_id }).await.expect("a member");
        let alice = app.again(&alice).await;
        let other = Group { name: "ignored".to_owned(), description: "They write\nand edit.".to_owned(), ..group.clone() };
        let changed = update(&root, Group { etag: String::new(), ..other }, &["description"]).await.expect("a group");
        assert_eq!((changed.name.as_str(), changed.description.as_str()), ("Editors", "They write\nand edit."));
        assert_eq!(changed.etag, "\"2\"");
        assert_eq!(root.groups().list_groups(ListGroupsRequest::default()).await.expect("groups").into_inner().groups, std::slice::from_ref(&changed));
        // Access tokens do not contain the description, so they stay valid.
        alice.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer");
        let cleared = update(&root, Group { description: String::new(), ..changed.clone() }, &["description"]).await.expect("a group");
        assert_eq!(cleared.description, "");
        let long = update(&root, Group { description: "x".repeat(1001), etag: String::new(), ..changed }, &["description"]).await;
        assert_refused(long, Code::InvalidArgument, "FIELD_INVALID", &[("group.description", "STRING_MAX_LEN")]);
    }

    async fn new_users_join_the_default_group(app: App) {
        let root = app.superuser("root").await;
        let group = create(&root, "Members").await.expect("a group");
        let settings = Settings { default_group: Some("Members".to_owned()), ..Settings::default() };
        let replica = App::replica(&app.database, &app.clock, &app.master_key, settings).await;
        let root = root.at(&replica);
        UserServiceClient::new(replica.channel()).register(registration("alice")).await.expect("a user");
        let user = Some(User { username: "bob".to_owned(), ..User::default() });
        root.users().create_user(CreateUserRequest { user, password: PASSWORD.to_owned() }).await.expect("a user");
        for username in ["alice", "bob"] {
            let actor = app.actor(app.login(username).await);
            assert_eq!(actor.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner().groups, ["Members"]);
        }
        // The group is known by its id, so that a new name changes nothing.
        update(&root, Group { name: "People".to_owned(), ..group.clone() }, &["name"]).await.expect("a group");
        UserServiceClient::new(replica.channel()).register(registration("carol")).await.expect("a user");
        let carol = app.actor(app.login("carol").await);
        assert_eq!(carol.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner().groups, ["People"]);
        // Without the group, users are still created.
        let delete = DeleteGroupRequest { group_id: group.group_id, etag: String::new() };
        root.groups().delete_group(delete).await.expect("a deletion");
        UserServiceClient::new(replica.channel()).register(registration("dave")).await.expect("a user");
    }

    async fn group_names_are_unique_and_case_sensitive(app: App) {
        let root = app.superuser("root").await;
        let (one, _) = (create(&root, "Editors").await.expect("a group"), create(&root, "editors").await.expect("another"));
        let again = create(&root, "Editors").await;
        assert_refused(again, Code::AlreadyExists, "ALREADY_EXISTS", &[("group.name", "GROUP_NAME_UNIQUE")]);
        let renamed = update(&root, Group { name: "editors".to_owned(), ..one.clone() }, &["name"]).await;
        assert_refused(renamed, Code::AlreadyExists, "ALREADY_EXISTS", &[("group.name", "GROUP_NAME_UNIQUE")]);
        for name in ["", "  ", "a\nb"] {
            assert_refused(create(&root, name).await, Code::InvalidArgument, "FIELD_INVALID", &[("group.name", "GROUP_NAME")]);
        }
        let blank = update(&root, Group { name: String::new(), ..one }, &["*"]).await;
        assert_refused(blank, Code::InvalidArgument, "FIELD_INVALID", &[("group.name", "GROUP_NAME")]);
    }

    async fn groups_and_members_are_listed_page_by_page(app: App) {
        let root = app.superuser("root").await;
        for name in ["b", "B", "a", "ä", "z"] {
            create(&root, name).await.expect("a group");
        }
        let (mut page_token, mut names, mut last) = (String::new(), Vec::new(), Group::default());
        loop {
            let page = root.groups().list_groups(ListGroupsRequest { page_size: 2, page_token }).await.expect("a page").into_inner();
            names.extend(page.groups.iter().map(|group| group.name.clone()));
            last = page.groups.last().cloned().unwrap_or(last);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(names, ["B", "a", "b", "z", "ä"]);

        let group_id = last.group_id;
        for username in ["carol", "Alice", "bob"] {
            let user_id = app.register(username).await.user_id;
            root.groups().add_member(AddMemberRequest { group_id: group_id.clone(), user_id }).await.expect("a member");
        }
        let list = |group_id: &str, page_token: &str| {
            let request = ListMembersRequest { group_id: group_id.to_owned(), page_size: 2, page_token: page_token.to_owned() };
            let mut groups = root.groups();
            async move { groups.list_members(request).await.map(tonic::Response::into_inner) }
        };
        let first = list(&group_id, "").await.expect("a page");
        let second = list(&group_id, &first.next_page_token).await.expect("a page");
        let names: Vec<_> = first.members.iter().chain(&second.members).map(|member| member.username.as_str()).collect();
        assert_eq!((names.as_slice(), second.next_page_token.as_str()), (["Alice", "bob", "carol"].as_slice(), ""));
        assert_refused(list(NOTHING, "").await, Code::NotFound, "NOT_FOUND", &[("group_id", "EXISTS")]);
    }

    async fn add_member_requires_an_existing_user_and_group(app: App) {
        let root = app.superuser("root").await;
        let group_id = create(&root, "Editors").await.expect("a group").group_id;
        let add = |group_id: &str, user_id: &str| {
            let request = AddMemberRequest { group_id: group_id.to_owned(), user_id: user_id.to_owned() };
            let mut groups = root.groups();
            async move { groups.add_member(request).await }
        };
        assert_refused(add(NOTHING, &root.user.user_id).await, Code::NotFound, "NOT_FOUND", &[("group_id", "EXISTS")]);
        assert_refused(add(&group_id, NOTHING).await, Code::NotFound, "NOT_FOUND", &[("user_id", "EXISTS")]);
    }
}
