from typing import Any, BinaryIO, cast

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from ninja import Router, Status

from accounts.errors import FieldError, InvalidInput, PictureTooLarge
from accounts.http import AuthenticatedRequest, origin
from accounts.services import pictures
from api.errors import MalformedBody, UnsupportedMediaType
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import BODY, responses

router = Router(tags=["picture"], auth=AccessToken())

_FILE = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
_ENVELOPE = 16 * 1024  # bytes of multipart around the file


def _read_file(request: AuthenticatedRequest) -> BinaryIO:
    """The uploaded file. Read here and not by ninja, which would take the upload of anybody before it looks who
    sends it."""
    if request.content_type != "multipart/form-data":
        raise UnsupportedMediaType(request.content_type or "none")
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        raise MalformedBody("Content-Length") from None
    if length > settings.PICTURE_MAX_BYTES + _ENVELOPE:
        raise PictureTooLarge("Content-Length")
    _fields, files = request.parse_file_upload(request.META, request)
    file = files.get("file")
    if not isinstance(file, UploadedFile):
        raise InvalidInput([FieldError("file", "required")])
    return cast("BinaryIO", file)


@router.put(
    "/me/picture",
    operation_id="putPicture",
    response=responses({200: schemas.ProfileOut}, *BODY, 401, 429, 503),
    openapi_extra=_FILE,
)
def put_picture(request: AuthenticatedRequest) -> dict[str, Any]:
    """Set the profile picture: JPEG, PNG, WebP, HEIC or AVIF. It comes out square, in
    three sizes, without EXIF or GPS."""
    user = pictures.replace(user=request.user, file=_read_file(request), origin=origin(request))
    return schemas.profile(user)


@router.delete("/me/picture", operation_id="deletePicture", response=responses({204: None}, 401))
def delete_picture(request: AuthenticatedRequest) -> Status[None]:
    """Take the picture away. 204 the second time too."""
    pictures.remove(user=request.user, origin=origin(request))
    return Status(204, None)
