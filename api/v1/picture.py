from typing import Any, BinaryIO, cast
from uuid import UUID

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from ninja import Router, Status

from accounts import errors
from accounts.errors import FieldError, InvalidInput, PictureTooLarge
from accounts.http import AuthenticatedRequest, caller
from accounts.models import PictureUpload, User
from accounts.services.profile import picture_uploads, pictures
from api.errors import MalformedBody, UnsupportedMediaType
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import BODY, TOKEN, answers

router = Router(tags=["picture"], auth=AccessToken())

_PART = {"type": "string", "format": "binary", "description": "The picture, as a part with a `filename`."}
_FORM = {"type": "object", "required": ["file"], "properties": {"file": _PART}}
_FILE = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}
_ENVELOPE = 16 * 1024  # bytes of multipart around the file


def _read_file(request: AuthenticatedRequest) -> BinaryIO:
    """The uploaded file. Read here and not by ninja, which would read it before it checks the access token."""
    if request.content_type != "multipart/form-data":
        raise UnsupportedMediaType(request.content_type or "none")
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        raise MalformedBody("Content-Length") from None
    if length > settings.PICTURE_MAX_BYTES + _ENVELOPE:
        raise PictureTooLarge("Content-Length")
    _fields, files = request.parse_file_upload(request.META, request)
    # What Django closes when the request ends. Else they stay on the disk until the garbage is collected.
    request._files = files  # type: ignore[attr-defined]  # noqa: SLF001
    file = files.get("file")
    if not isinstance(file, UploadedFile):
        raise InvalidInput([FieldError("file", "required")])
    return cast("BinaryIO", file)


@router.put(
    "/me/picture",
    operation_id="putPicture",
    **answers(
        {200: schemas.ProfileOut},
        *TOKEN,
        *BODY,
        errors.InvalidPicture,
        errors.PictureIncomplete,
        errors.PictureTooLarge,
        errors.RateLimited,
        errors.Overloaded,
        errors.StorageUnavailable,
        extra=_FILE,
    ),
)
def put_picture(request: AuthenticatedRequest) -> User:
    """Set the profile picture.

    JPEG, PNG, WebP, HEIC or AVIF. It becomes square, in three sizes, without EXIF or GPS."""
    return pictures.replace(
        user=request.user, file=_read_file(request), caller=caller(request), session=request.user_session
    )


@router.delete("/me/picture", operation_id="deletePicture", **answers({204: None}, *TOKEN))
def delete_picture(request: AuthenticatedRequest) -> Status[None]:
    """Remove the profile picture.

    204 the second time too."""
    pictures.remove(user=request.user, caller=caller(request), session=request.user_session)
    return Status(204, None)


@router.post(
    "/me/picture/uploads",
    operation_id="beginPictureUpload",
    **answers({201: schemas.PictureUploadFormOut}, *TOKEN, *BODY, errors.PictureTooLarge, errors.RateLimited),
)
def begin_picture_upload(request: AuthenticatedRequest, payload: schemas.PictureUploadIn) -> Status[Any]:
    """Begin a direct upload of a picture.

    The answer is a form: send its `fields` and then the file as `file` to its `url`, as multipart/form-data. The
    storage answers 2xx, or with an error in XML of its own if the size or the type is not what was announced. Then
    call `completePictureUpload`."""
    upload, form = picture_uploads.begin(user=request.user, caller=caller(request), **payload.model_dump())
    return Status(201, {"id": upload.id, "url": form.url, "fields": form.fields, "expires_at": upload.expires_at})


@router.post(
    "/me/picture/uploads/{upload_id}/complete",
    operation_id="completePictureUpload",
    **answers({202: schemas.PictureUploadOut}, *TOKEN, errors.InvalidInput, errors.UploadNotFound),
)
def complete_picture_upload(request: AuthenticatedRequest, upload_id: UUID) -> Status[Any]:
    """Say that the file was uploaded.

    It is checked and published within seconds. Call `getPictureUpload` once a second until its state is neither `asked`
    nor `queued`."""
    return Status(202, picture_uploads.complete(user=request.user, upload_id=upload_id, caller=caller(request)))


@router.get(
    "/me/picture/uploads/{upload_id}",
    operation_id="getPictureUpload",
    **answers({200: schemas.PictureUploadOut}, *TOKEN, errors.InvalidInput, errors.UploadNotFound),
)
def get_picture_upload(request: AuthenticatedRequest, upload_id: UUID) -> PictureUpload:
    """Get the state of an upload.

    If it is `refused`, `code` says why: `upload_missing` (no file has arrived), `invalid_picture`,
    `picture_incomplete` or `picture_too_large`. It can be asked for an hour."""
    return picture_uploads.find(user=request.user, upload_id=upload_id)
