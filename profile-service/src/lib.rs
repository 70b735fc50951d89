#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto { tonic::include_proto!("profile.v1"); }
use proto::*;
use shared::{Db, Caller, Result, db::Executor};
pub struct NoteApi { db: Db }
async fn ins(tx: &mut shared::Tx, t: &str) -> Result<i64> { Ok(tx.query("SELECT 1 WHERE $1 = 'x'").bind(t).one::<(i64,)>().await?.0) }
impl note_service::Handlers for NoteApi {
    async fn create_note(&self, caller: Caller, request: CreateNoteRequest) -> Result<Note> {
        let id = caller.user_id()?;
        let n = { let mut tx = self.db.begin().await?; let x = ins(&mut tx, &request.note_id).await?; let _ = id; tx.commit().await?; x };
        let _ = n;
        Ok(Note::default())
    }
    async fn get_note(&self, caller: Caller, request: GetNoteRequest) -> Result<Note> { unimplemented!() }
    async fn list_notes(&self, caller: Caller, request: ListNotesRequest) -> Result<ListNotesResponse> { unimplemented!() }
    async fn batch_get_notes(&self, caller: Caller, request: BatchGetNotesRequest) -> Result<BatchGetNotesResponse> { unimplemented!() }
    async fn update_note(&self, caller: Caller, request: UpdateNoteRequest) -> Result<Note> { unimplemented!() }
    async fn delete_note(&self, caller: Caller, request: DeleteNoteRequest) -> Result<()> { unimplemented!() }
    async fn list_favorited_by(&self, caller: Caller, request: ListFavoritedByRequest) -> Result<ListFavoritedByResponse> { unimplemented!() }
}
