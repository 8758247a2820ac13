"""The demo: mark a part of a photo, have it restored, watch its semantic map being corrected, and edit the map by hand.

    python app.py                                         # the bundled models, http://127.0.0.1:7860
    python app.py --model my/pipeline user/name-on-hub    # others: folders or Hub ids

The page itself is in fbinpaint/demo/. Programs call the same server:

    from gradio_client import Client, handle_file
    client = Client("http://127.0.0.1:7860")
    restored, before, after, figures = client.predict(
        handle_file("photo.png"), handle_file("mask.png"), api_name="/inpaint"
    )
    restored, mask, before, after, figures = client.predict(
        handle_file("photo.png"), "car, person", model="streets", api_name="/remove"
    )
"""

from fbinpaint.demo.server import main

if __name__ == "__main__":
    main()
