"""Signs a user in, keeps a note, and lists their notes:

    pip install -r requirements.txt
    python notes.py alice 'seven blue cafes of tin' Hello
"""

import sys
import tempfile
from importlib import import_module
from importlib.resources import files as files_of
from pathlib import Path

import grpc
from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parents[2] / "proto"


def make_stubs(folder):
    """What a build step does once: the protos to Python. Google's own are in googleapis-common-protos."""
    files = [path for path in PROTOS.rglob("*.proto") if "google" not in path.parts]
    includes = [PROTOS / "third_party", PROTOS, files_of("grpc_tools") / "_proto"]
    arguments = [*(f"-I{include}" for include in includes), f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(["protoc", *arguments, *map(str, files)]) != 0:
        sys.exit("the protos do not compile")
    sys.path.insert(0, folder)


def main(username, password, title, auth="127.0.0.1:50051", profile="127.0.0.1:50052"):
    with tempfile.TemporaryDirectory() as folder:
        make_stubs(folder)
        token_pb2, token_grpc = import_module("auth.v1.token_pb2"), import_module("auth.v1.token_pb2_grpc")
        note_pb2, note_grpc = import_module("profiles.v1.note_pb2"), import_module("profiles.v1.note_pb2_grpc")
    with grpc.insecure_channel(auth) as channel:
        credentials = token_pb2.LoginRequest(username=username, password=password)
        token = token_grpc.TokenServiceStub(channel).Login(credentials).access_token
    signed_in = {"metadata": [("authorization", f"Bearer {token}")]}
    with grpc.insecure_channel(profile) as channel:
        notes = note_grpc.NoteServiceStub(channel)
        # With a `note_id` of one's own choice it would be safe to retry.
        notes.CreateNote(note_pb2.CreateNoteRequest(user_id="me", note=note_pb2.Note(title=title)), **signed_in)
        for note in notes.ListNotes(note_pb2.ListNotesRequest(user_id="me"), **signed_in).notes:
            print(note.title)


if __name__ == "__main__":
    main(*sys.argv[1:])
